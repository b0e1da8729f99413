"""The techniques that ship, in the engine's order, two configs of each, and which sets of them may act together."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from nas_edge import Technique
from nas_edge.steps import order_techniques
from nas_edge_plugins.distill import Distill, DistillConfig
from nas_edge_plugins.low_rank import LowRank, LowRankConfig
from nas_edge_plugins.prune import Prune, PruneConfig
from nas_edge_plugins.qat import Qat, QatConfig
from nas_edge_plugins.quantize import Quantize, QuantizeConfig
from nas_edge_plugins.sparsify import Sparsify, SparsifyConfig
from nas_edge_plugins.weight_codes import WeightCodes, WeightCodesConfig

TECHNIQUES: list[Technique] = order_techniques(
    [Distill(), LowRank(), Prune(), Qat(), Quantize(), Sparsify(), WeightCodes()]
)
BY_NAME = {t.name: t for t in TECHNIQUES}
CONFIGS: dict[str, Any] = {
    "prune": PruneConfig(0.4, "layer", "l2", 4),
    "low_rank": LowRankConfig(0.7, 4, method="auto"),
    "distill": DistillConfig(),
    "sparsify": SparsifyConfig(sparsity=0.5),
    "qat": QatConfig(weight_bits=8, calibration_images=32),
    "quantize": QuantizeConfig(32),
    "weight_codes": WeightCodesConfig("codebook", 4),
}
# Other ways through each: data, training and hooks where there were none, few bits where there were many.
OTHERS: dict[str, Any] = {
    "prune": PruneConfig(0.4, "global", "taylor", 4, "iterative", steps=2, importance_images=64),
    "low_rank": LowRankConfig(rank_multiple=4, method="cp", rank_by="ratio", cp_kernel="separable"),
    "distill": DistillConfig(method="features"),
    "sparsify": SparsifyConfig("sensitivity", 0.5, scope="relative", schedule="gradual", sensitivity_images=64),
    "qat": QatConfig(weight_bits=4, steps="observed", batch_norm="folded", calibration_images=32),
    "quantize": QuantizeConfig(32, weight_bits=6, float_layers=1, equalize=True, bias_correction=True),
    "weight_codes": WeightCodesConfig("ternary", ends="coded", depthwise="coded"),
}


def shared(techniques: tuple[Technique, ...]) -> set[str]:
    """What more than one of the techniques would decide."""
    counts = Counter(what for technique in techniques for what in technique.exclusive)
    return {what for what, count in counts.items() if count > 1}


def sets_of(*sizes: int, legal: bool = True) -> list[tuple[Technique, ...]]:
    """All sets of so many techniques, in the engine's order, that may (or may not) act together."""
    found = (s for size in sizes for s in itertools.combinations(TECHNIQUES, size))
    return [s for s in found if legal != bool(shared(s))]


def names(techniques: tuple[Technique, ...]) -> str:
    return "+".join(t.name for t in techniques)
