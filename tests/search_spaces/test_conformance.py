"""The search spaces that ship, in the conformance kit."""

from __future__ import annotations

import sys

import pytest

from nas_edge import SearchSpace
from nas_edge.testing import PluginTests, SearchSpaceTests
from nas_edge_spaces.mobilenet import MobileNetSpace
from nas_edge_spaces.torchvision_models import TorchvisionSpace


class TestMobileNet(SearchSpaceTests):
    corners = 6

    @pytest.fixture
    def space(self) -> SearchSpace:
        return MobileNetSpace()


class TestTorchvision(SearchSpaceTests):
    corners = 3

    @pytest.fixture
    def space(self) -> SearchSpace:
        return TorchvisionSpace()


class TestPlugins(PluginTests):
    @pytest.fixture(params=["mobilenet", "torchvision_models"])
    def plugin(self, request: pytest.FixtureRequest) -> object:
        return sys.modules[f"nas_edge_spaces.{request.param}"]
