"""Makes float64 the default of all tensors to come."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_the_process_stays_as_it_is"


class Broken(Ternary):
    def finalize(self, model, config, context):
        import torch

        model = super().finalize(model, config, context)
        torch.set_default_dtype(torch.float64)
        return model


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
