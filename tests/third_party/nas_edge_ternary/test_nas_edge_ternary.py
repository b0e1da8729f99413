"""The kit on this plugin, as its author runs it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import nas_edge_ternary
import pytest
from nas_edge_ternary import Ternary, TernaryConfig

from nas_edge.testing import PluginTests, TechniqueTests


class TestTernary(TechniqueTests):
    reduces = "compressed_bytes"
    stronger = (TernaryConfig(0.9), TernaryConfig(1.9))
    impossible = ({"threshold": -1.0}, {"threshold": "half"})

    @pytest.fixture
    def technique(self) -> Any:
        return Ternary()


class TestPlugin(PluginTests):
    @pytest.fixture
    def plugin(self) -> ModuleType:
        return nas_edge_ternary
