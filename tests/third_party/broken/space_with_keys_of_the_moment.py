"""Lists its layers in the order of a set, which differs from process to process."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Tiny

from nas_edge.testing import SearchSpaceTests

CAUGHT_BY = "test_its_keys_are_the_same_in_every_process"


class Broken(Tiny):
    def suggest(self, scope):
        return {**super().suggest(scope), "layers": list({"stem", "body", "head", "neck", "tail"})}


class TestBroken(SearchSpaceTests):
    space = pytest.fixture(lambda self: Broken())
