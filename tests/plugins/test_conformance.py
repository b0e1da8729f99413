"""The techniques that ship, in the conformance kit."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from nas_edge import Technique
from nas_edge.testing import PluginTests, TechniqueTests
from nas_edge_plugins.distill import Distill
from nas_edge_plugins.low_rank import LowRank, LowRankConfig
from nas_edge_plugins.prune import Prune, PruneConfig
from nas_edge_plugins.qat import Qat, QatConfig
from nas_edge_plugins.quantize import Quantize, QuantizeConfig
from nas_edge_plugins.sparsify import Sparsify, SparsifyConfig
from nas_edge_plugins.weight_codes import WeightCodes, WeightCodesConfig

from .all_techniques import CONFIGS, OTHERS
from .bad_configs import BAD, TOGETHER


def both(name: str) -> Sequence[Any]:
    """Two ways through a technique."""
    return CONFIGS[name], OTHERS[name]


def bad(name: str) -> Sequence[Mapping[str, Any]]:
    """Every value that a field refuses, and those that do not go together."""
    single = [{field: value} for field, values in BAD[name].items() for value in values]
    return single + [config for technique, _, config in TOGETHER if technique == name]


class TestPrune(TechniqueTests):
    configs, impossible = both("prune"), bad("prune")
    reduces, stronger = "macs", tuple(PruneConfig(ratio, "layer", "l2", 4) for ratio in (0.25, 0.5, 0.75))

    @pytest.fixture
    def technique(self) -> Technique:
        return Prune()


class TestLowRank(TechniqueTests):
    configs, impossible = both("low_rank"), bad("low_rank")
    reduces, stronger = "parameters", tuple(LowRankConfig(energy, 4) for energy in (0.8, 0.6, 0.4))

    @pytest.fixture
    def technique(self) -> Technique:
        return LowRank()


class TestDistill(TechniqueTests):
    configs, impossible = both("distill"), bad("distill")

    @pytest.fixture
    def technique(self) -> Technique:
        return Distill()


class TestSparsify(TechniqueTests):
    configs, impossible = both("sparsify"), bad("sparsify")
    reduces, stronger = "compressed_bytes", tuple(SparsifyConfig(sparsity=share) for share in (0.3, 0.6, 0.9))

    @pytest.fixture
    def technique(self) -> Technique:
        return Sparsify()


class TestQat(TechniqueTests):
    configs, impossible = both("qat"), bad("qat")
    reduces = "size_bytes"
    stronger = tuple(QatConfig(weight_bits=bits, calibration_images=32) for bits in (8, 4))

    @pytest.fixture
    def technique(self) -> Technique:
        return Qat()


class TestQuantize(TechniqueTests):
    configs, impossible = both("quantize"), bad("quantize")
    reduces, stronger = "size_bytes", tuple(QuantizeConfig(32, weight_bits=bits) for bits in (8, 4))

    @pytest.fixture
    def technique(self) -> Technique:
        return Quantize()


class TestWeightCodes(TechniqueTests):
    configs, impossible = both("weight_codes"), bad("weight_codes")
    reduces, stronger = "size_bytes", tuple(WeightCodesConfig("codebook", bits) for bits in (8, 4, 2))

    @pytest.fixture
    def technique(self) -> Technique:
        return WeightCodes()


TECHNIQUES = ("distill", "low_rank", "prune", "qat", "quantize", "sparsify", "weight_codes")


class TestPlugins(PluginTests):
    @pytest.fixture(params=TECHNIQUES)
    def plugin(self, request: pytest.FixtureRequest) -> Any:
        return sys.modules[f"nas_edge_plugins.{request.param}"]
