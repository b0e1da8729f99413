"""Its config holds a tuple, which JSON gives back as a list."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from nas_edge_ternary import Ternary, TernaryConfig

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_its_configs_survive_json"


@dataclass(frozen=True)
class Config(TernaryConfig):
    layers: tuple[str, ...] = ("0", "3")


class Broken(Ternary):
    config_type = Config

    def suggest(self, scope):
        return Config(scope.suggest_float("threshold", 0.5, 0.9))


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
