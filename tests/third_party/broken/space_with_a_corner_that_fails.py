"""Its widest network cannot be built."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Tiny

from nas_edge.testing import SearchSpaceTests

CAUGHT_BY = "test_its_corners_build_train_and_export"
ALSO_BY = ("test_no_parameter_is_dead",)


class Broken(Tiny):
    def build(self, params, *, in_channels, num_classes, resolution):
        groups = 2 if params["width"] == 19 else 1
        assert params["width"] % groups == 0
        return super().build(params, in_channels=in_channels, num_classes=num_classes, resolution=resolution)

    def supernet(self):
        return None


class TestBroken(SearchSpaceTests):
    space = pytest.fixture(lambda self: Broken())
