"""The conformance kit on what the plugin registers."""

from __future__ import annotations

import pytest
from nas_edge_example import Example

from nas_edge.testing import SearchSpaceTests


class TestExample(SearchSpaceTests):
    @pytest.fixture
    def space(self) -> Example:
        return Example()
