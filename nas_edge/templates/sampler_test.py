"""The conformance kit on what the plugin registers."""

from __future__ import annotations

import pytest
from nas_edge_example import Example

from nas_edge.testing import SamplerTests


class TestExample(SamplerTests):
    @pytest.fixture
    def make_sampler(self) -> type[Example]:
        return Example
