"""The conformance kit on what the plugin registers."""

from __future__ import annotations

import pytest
from nas_edge_example import Example

from nas_edge.testing import TargetTests


class TestExample(TargetTests):
    @pytest.fixture
    def target(self) -> Example:
        return Example("example")
