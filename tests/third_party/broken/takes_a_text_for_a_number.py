"""Takes whatever was typed for its threshold, and fails once a candidate is made."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_a_value_of_another_type_is_refused"


@dataclass(frozen=True)
class Config:
    threshold: float = 0.7


class Broken(Ternary):
    config_type = Config

    def suggest(self, scope):
        return Config(scope.suggest_float("threshold", 0.5, 0.9))


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
