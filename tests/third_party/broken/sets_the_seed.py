"""Seeds torch's generator for all others."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_the_process_stays_as_it_is"


class Broken(Ternary):
    def finalize(self, model, config, context):
        import torch

        torch.manual_seed(context.seed)
        return super().finalize(model, config, context)


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
