"""A field of its config has no default."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from nas_edge_ternary import Ternary, TernaryConfig

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_its_config_is_valid_by_default"


@dataclass(frozen=True)
class Config:
    threshold: float

    __post_init__ = TernaryConfig.__post_init__


class Broken(Ternary):
    config_type = Config

    def suggest(self, scope):
        return Config(scope.suggest_float("threshold", 0.5, 0.9))


class TestBroken(TechniqueTests):
    configs = (Config(0.7),)

    technique = pytest.fixture(lambda self: Broken())
