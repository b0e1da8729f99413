"""This machine as a target, in the conformance kit."""

from __future__ import annotations

import pytest

from nas_edge import Target, targets
from nas_edge.targets.local import LocalTarget
from nas_edge.testing import PluginTests, TargetTests


class TestLocal(TargetTests):
    @pytest.fixture
    def target(self) -> Target:
        return LocalTarget(processes=1)


class TestPlugin(PluginTests):
    @pytest.fixture
    def plugin(self) -> object:
        return targets
