"""Starts from weights that nobody seeds."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Tiny

from nas_edge.testing import SearchSpaceTests

CAUGHT_BY = "test_building_is_repeatable"


class Broken(Tiny):
    def build(self, params, *, in_channels, num_classes, resolution):
        import numpy as np
        import torch

        model = super().build(params, in_channels=in_channels, num_classes=num_classes, resolution=resolution)
        with torch.no_grad():
            model[-1].bias += torch.from_numpy(np.random.standard_normal(num_classes)).float()
        return model


class TestBroken(SearchSpaceTests):
    space = pytest.fixture(lambda self: Broken())
