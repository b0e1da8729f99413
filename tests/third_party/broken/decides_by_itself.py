"""Draws its config at random, so that a study cannot make a candidate again."""

from __future__ import annotations

import random

import pytest
from nas_edge_ternary import Ternary, TernaryConfig

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_the_same_parameters_give_the_same_config"


class Broken(Ternary):
    def suggest(self, scope):
        low = scope.suggest_float("threshold", 0.5, 0.9)
        return TernaryConfig(low + 0.01 * random.random())


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
