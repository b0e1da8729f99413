"""The samplers that ship, in the conformance kit."""

from __future__ import annotations

import pytest

from nas_edge.plugins import load_plugins
from nas_edge.samplers import registered
from nas_edge.testing import PluginTests, SamplerTests
from nas_edge.testing.samplers import MakeSampler

OWN_START = 16  # random trials of our samplers: what comes after is proposed


class TestSamplers(SamplerTests):
    trials = OWN_START + 2

    @pytest.fixture(params=["surrogate", "constrained", "evolution", "reinforce", "gradient", "random", "tpe", "nsga2"])
    def make_sampler(self, request: pytest.FixtureRequest) -> MakeSampler:
        made: MakeSampler = load_plugins().samplers[request.param]
        return made


class TestPlugin(PluginTests):
    @pytest.fixture
    def plugin(self) -> object:
        return registered
