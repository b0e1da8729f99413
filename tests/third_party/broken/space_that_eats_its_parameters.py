"""Takes a parameter out of the dictionary that it is given."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Tiny

from nas_edge.testing import SearchSpaceTests

CAUGHT_BY = "test_building_is_repeatable"


class Broken(Tiny):
    def build(self, params, *, in_channels, num_classes, resolution):
        params["width"] += 0
        params.setdefault("padding", 1)
        return super().build(params, in_channels=in_channels, num_classes=num_classes, resolution=resolution)


class TestBroken(SearchSpaceTests):
    space = pytest.fixture(lambda self: Broken())
