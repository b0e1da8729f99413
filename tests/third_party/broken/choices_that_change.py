"""Offers other choices once it has been asked, which no study can store."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary, TernaryConfig

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_its_choices_are_the_same_in_every_trial"


class Broken(Ternary):
    asked = 0

    def suggest(self, scope):
        self.asked += 1
        choices = [0.7, 0.8] if self.asked == 1 else [0.7, 0.8, 0.9]
        return TernaryConfig(scope.suggest_categorical("threshold", choices))


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
