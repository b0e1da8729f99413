"""example: plain networks of depthwise separable blocks (Howard et al. 2017, "MobileNets", section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nas_edge import Scope, SearchSpace, hookimpl

MOST_BLOCKS = 4


class Example(SearchSpace):
    """Depthwise separable blocks of one width."""

    name = "example"
    version = 1

    def suggest(self, scope: Scope) -> dict[str, Any]:
        return {
            "width": scope.suggest_int("width", 8, 32, step=8),
            "blocks": scope.suggest_int("blocks", 1, MOST_BLOCKS),
            "kernel": scope.suggest_categorical("kernel", [3, 5]),
        }

    def build(self, params: Mapping[str, Any], *, in_channels: int, num_classes: int, resolution: int) -> Any:
        from torch import nn

        width, kernel = params["width"], params["kernel"]
        layers: list[nn.Module] = [*_convolution(in_channels, width, 3, stride=2)]
        for _ in range(params["blocks"]):
            layers += [*_convolution(width, width, kernel, groups=width), *_convolution(width, width, 1)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))

    def largest(self) -> dict[str, Any]:
        return {"width": 32, "blocks": MOST_BLOCKS, "kernel": 5}


def _convolution(channels: int, width: int, kernel: int, *, stride: int = 1, groups: int = 1) -> tuple[Any, ...]:
    from torch import nn

    convolution = nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU()


@hookimpl
def register_search_spaces(register: Callable[[SearchSpace], None]) -> None:
    register(Example())
