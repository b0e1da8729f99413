"""Builds for three channels, whatever the images have."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Tiny

from nas_edge.testing import SearchSpaceTests

CAUGHT_BY = "test_its_corners_build_train_and_export"


class Broken(Tiny):
    def build(self, params, *, in_channels, num_classes, resolution):
        return super().build(params, in_channels=3, num_classes=num_classes, resolution=resolution)


class TestBroken(SearchSpaceTests):
    space = pytest.fixture(lambda self: Broken())
