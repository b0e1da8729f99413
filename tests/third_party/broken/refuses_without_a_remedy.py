"""Refuses a threshold, and leaves the reader to find out which would do."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from nas_edge_ternary import Ternary

from nas_edge import InvalidCandidate
from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_impossible_configs_are_refused"


@dataclass(frozen=True)
class Config:
    threshold: float = 0.7

    def __post_init__(self):
        if not isinstance(self.threshold, float):
            raise InvalidCandidate(f"ternary: threshold={self.threshold!r} must be a number in 0..2; try 0.7")
        if self.threshold < 0:
            raise InvalidCandidate(f"ternary: bad threshold {self.threshold!r}")


class Broken(Ternary):
    config_type = Config

    def suggest(self, scope):
        return Config(scope.suggest_float("threshold", 0.5, 0.9))


class TestBroken(TechniqueTests):
    impossible = ({"threshold": -1.0},)

    technique = pytest.fixture(lambda self: Broken())
