"""The conformance kit on the plugin as a whole: its hooks, and how it is loaded."""

from __future__ import annotations

from types import ModuleType

import nas_edge_example
import pytest

from nas_edge.testing import PluginTests


class TestPlugin(PluginTests):
    @pytest.fixture
    def plugin(self) -> ModuleType:
        return nas_edge_example
