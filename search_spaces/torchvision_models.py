"""Fixed architectures from torchvision, untrained, as a search space: for comparison with what everybody knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nas_edge import InvalidCandidate, Scope, SearchSpace, hookimpl

if TYPE_CHECKING:
    from torch import nn

MODELS = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "mnasnet0_5",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "efficientnet_b0",
    "regnet_y_400mf",
    "resnet18",
)
SMALLEST = 32


class TorchvisionSpace(SearchSpace):
    """One decision: which of torchvision's classifiers. They run at the data's own resolution, from 32 pixels."""

    name = "torchvision"
    version = 1

    def suggest(self, scope: Scope) -> dict[str, Any]:
        return {"model": scope.suggest_categorical("model", MODELS)}

    def build(self, params: Mapping[str, Any], *, in_channels: int, num_classes: int, resolution: int) -> nn.Module:
        """The model with random weights, its first convolution made for `in_channels`.

        Raises `InvalidCandidate` for an unknown model and below 32 pixels, where these networks leave no map.
        """
        if set(params) != {"model"} or params["model"] not in MODELS:
            raise InvalidCandidate(f"parameters are {dict(params)!r}; give 'model' alone, one of {', '.join(MODELS)}")
        if resolution < SMALLEST:
            raise InvalidCandidate(
                f"resolution is {resolution} pixels; {params['model']} needs at least {SMALLEST}, "
                "the mobilenet space works from 8"
            )
        from nas_edge import torchvision_network

        return torchvision_network(params["model"], in_channels=in_channels, num_classes=num_classes)

    def largest(self) -> dict[str, Any]:
        return {"model": "resnet18"}


@hookimpl
def register_search_spaces(register: Callable[[SearchSpace], None]) -> None:
    register(TorchvisionSpace())
