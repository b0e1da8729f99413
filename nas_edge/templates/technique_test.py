"""The conformance kit on what the plugin registers."""

from __future__ import annotations

import pytest
from nas_edge_example import Example, ExampleConfig

from nas_edge.testing import TechniqueTests


class TestExample(TechniqueTests):
    reduces = "size_bytes"
    stronger = (ExampleConfig(2000), ExampleConfig(200), ExampleConfig(1))  # each smaller than the one before
    impossible = ({"least": 0}, {"least": "few"})

    @pytest.fixture
    def technique(self) -> Example:
        return Example()
