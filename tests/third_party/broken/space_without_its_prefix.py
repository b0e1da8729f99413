"""Samples past its scope."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Tiny

from nas_edge.testing import SearchSpaceTests

CAUGHT_BY = "test_it_samples_only_its_own_parameters"
ALSO_BY = ("test_no_parameter_is_dead",)


class Broken(Tiny):
    def suggest(self, scope):
        return {**super().suggest(scope), "kernel": scope._trial.suggest_categorical("kernel", [3, 5])}


class TestBroken(SearchSpaceTests):
    space = pytest.fixture(lambda self: Broken())
