"""The kit on this plugin, as its author runs it."""

from __future__ import annotations

import nas_edge_ternary
import pytest
from nas_edge_ternary import Ternary, TernaryConfig

from nas_edge import Technique
from nas_edge.testing import PluginTests, TechniqueTests


class TestTernary(TechniqueTests):
    reduces = "compressed_bytes"
    stronger = (TernaryConfig(0.9), TernaryConfig(1.9))
    impossible = ({"threshold": -1.0}, {"threshold": "half"})

    @pytest.fixture
    def technique(self) -> Technique:
        made: Technique = Ternary()
        return made


class TestPlugin(PluginTests):
    @pytest.fixture
    def plugin(self) -> object:
        return nas_edge_ternary
