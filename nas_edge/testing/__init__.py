"""The conformance kit: pytest classes that a plugin's author subclasses, with one fixture, and inherits the checks.

    from nas_edge.testing import TechniqueTests

    class TestTernary(TechniqueTests):
        @pytest.fixture
        def technique(self):
            return Ternary()

Each check that fails says what is wrong and how to mend it. The techniques, spaces, targets and samplers that ship
run the same checks on themselves.
"""

from __future__ import annotations

from nas_edge.errors import UserError

try:
    import pytest  # noqa: F401
except ModuleNotFoundError:
    raise UserError("nas_edge.testing needs pytest; install it with: pip install 'nas-edge[testing]'") from None

from nas_edge.testing.hooks import PluginTests
from nas_edge.testing.samplers import SamplerTests
from nas_edge.testing.spaces import SearchSpaceTests
from nas_edge.testing.targets import TargetTests
from nas_edge.testing.techniques import TechniqueTests

__all__ = ["PluginTests", "SamplerTests", "SearchSpaceTests", "TargetTests", "TechniqueTests"]
