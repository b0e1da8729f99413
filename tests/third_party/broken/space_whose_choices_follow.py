"""Offers another list of kernels to wide networks."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Tiny

from nas_edge.testing import SearchSpaceTests

CAUGHT_BY = "test_its_choices_are_the_same_in_every_trial"


class Broken(Tiny):
    def suggest(self, scope):
        width = scope.suggest_int("width", 4, 19)
        kernel = scope.suggest_categorical("kernel", [3, 5] if width > 9 else [3])
        return {"width": width, "features": scope.suggest_int("features", 8, 39), "kernel": kernel}


class TestBroken(SearchSpaceTests):
    space = pytest.fixture(lambda self: Broken())
