"""Looks at what training left, which the quick pass has not."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary, TernaryConfig

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_it_works_before_any_training"


class Broken(Ternary):
    def finalize(self, model, config, context):
        return super().finalize(model, TernaryConfig(1.0 / context.trained), context)


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
