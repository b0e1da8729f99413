"""Ternary weights: each convolution's filters become -a, 0 or +a (Li, Zhang, Liu: Ternary weight networks, 2016)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nas_edge import Context, InvalidCandidate, Scope, Technique, hookimpl


@dataclass(frozen=True)
class TernaryConfig:
    threshold: float = 0.7  # equation 6: the share of the mean magnitude below which a weight becomes 0

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, float) or not 0 <= self.threshold < 2:
            raise InvalidCandidate(f"ternary: threshold={self.threshold!r} must be a number in 0..2; try 0.7")


class Ternary(Technique):
    name = "ternary"
    config_type = TernaryConfig
    exclusive = frozenset({"precision"})  # the weights stay of three values: nothing else may round them
    summary = "weights of three values, a scale for each filter"

    def suggest(self, scope: Scope) -> TernaryConfig:
        return TernaryConfig(threshold=scope.suggest_float("threshold", 0.5, 0.9))

    def finalize(self, model: Any, config: TernaryConfig, context: Context) -> Any:
        from torch import nn

        model = copy.deepcopy(model)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                weight = layer.weight.data
                size = weight.abs()
                kept = size > config.threshold * size.mean((1, 2, 3), keepdim=True)
                scale = (size * kept).sum((1, 2, 3), keepdim=True) / kept.sum((1, 2, 3), keepdim=True).clamp(min=1)
                layer.weight.data = scale * weight.sign() * kept
        return model


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(Ternary())
