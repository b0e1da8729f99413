"""Samples past its scope, under a name that others may have."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary, TernaryConfig

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_it_samples_only_its_own_parameters"


class Broken(Ternary):
    def suggest(self, scope):
        return TernaryConfig(scope._trial.suggest_float("threshold", 0.5, 0.9))


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
