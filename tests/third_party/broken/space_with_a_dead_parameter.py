"""Samples a dropout that no network has."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Tiny

from nas_edge.testing import SearchSpaceTests

CAUGHT_BY = "test_no_parameter_is_dead"


class Broken(Tiny):
    def suggest(self, scope):
        return {**super().suggest(scope), "dropout": scope.suggest_float("dropout", 0.0, 0.5)}


class TestBroken(SearchSpaceTests):
    space = pytest.fixture(lambda self: Broken())
