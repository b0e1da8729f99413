"""Fails on images that are too small, and says nothing that helps."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Tiny

from nas_edge.testing import SearchSpaceTests

CAUGHT_BY = "test_a_single_pixel_is_refused_in_words"


class Broken(Tiny):
    def build(self, params, *, in_channels, num_classes, resolution):
        if resolution < 4:
            raise ZeroDivisionError
        return super().build(params, in_channels=in_channels, num_classes=num_classes, resolution=resolution)


class TestBroken(SearchSpaceTests):
    space = pytest.fixture(lambda self: Broken())
