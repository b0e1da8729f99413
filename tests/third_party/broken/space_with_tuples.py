"""Its parameters hold a tuple, which a study gives back as a list."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Tiny

from nas_edge.testing import SearchSpaceTests

CAUGHT_BY = "test_its_architectures_survive_json"


class Broken(Tiny):
    def suggest(self, scope):
        return {**super().suggest(scope), "strides": (2, 2)}


class TestBroken(SearchSpaceTests):
    space = pytest.fixture(lambda self: Broken())
