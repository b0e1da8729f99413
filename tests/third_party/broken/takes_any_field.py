"""Ignores a field that it does not have: a misspelled one goes unnoticed."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary, TernaryConfig

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_an_unknown_field_is_refused"


class Broken(Ternary):
    def config_from_json(self, value):
        return TernaryConfig(value.get("threshold", 0.7))


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
