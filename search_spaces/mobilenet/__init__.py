"""The main search space: networks of MobileNet blocks, for images of 8 to 224 pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nas_edge import Scope, SearchSpace, Supernet, hookimpl

from . import architecture, sharing
from .architecture import ACTIVATIONS, ATTENTIONS, BLOCKS, Architecture

if TYPE_CHECKING:
    from torch import nn


class MobileNetSpace(SearchSpace):
    """A stem and 2 to 4 stages of depthwise-separable or inverted-residual blocks.

    Every stage has its own depth, width, stride, block, expansion (inverted residuals), kernel and attention; the
    activation, the width multiplier and the input resolution hold for the whole network. The first stage runs at
    the stem's resolution: what its stride would be follows from the size of the images (`stem_reductions`).
    """

    name = "mobilenet"
    version = 1

    def suggest(self, scope: Scope) -> dict[str, Any]:
        """Sample 17 to 33 decisions, 25 on average."""
        scale, multiplier = architecture.INPUT_SCALES, architecture.WIDTH_MULTIPLIERS
        params: dict[str, Any] = {
            "input_scale": scope.suggest_float("input_scale", scale.low, scale.high, step=scale.step),
            "width_multiplier": scope.suggest_float(
                "width_multiplier", multiplier.low, multiplier.high, step=multiplier.step
            ),
            "activation": scope.suggest_categorical("activation", ACTIVATIONS),
        }
        stem = scope.within("stem")
        params["stem"] = {
            "width": _suggest_int(stem, "width", architecture.STEM_WIDTHS),
            "kernel": _suggest_int(stem, "kernel", architecture.STEM_KERNELS),
        }
        count = _suggest_int(scope, "stages", architecture.STAGE_COUNTS)
        params["stages"] = [_suggest_stage(scope.within(f"stage{i + 1}"), i) for i in range(count)]
        return params

    def build(self, params: Mapping[str, Any], *, in_channels: int, num_classes: int, resolution: int) -> nn.Module:
        """The network, built for images of exactly `resolution` pixels, as a plain `nn.Sequential` of stages.

        Raises `InvalidCandidate` for a parameter that is unknown, missing or outside its range, and for images
        under 6 pixels.
        """
        from .network import build_network

        return build_network(Architecture.from_params(params), in_channels, num_classes, resolution)

    def input_size(self, params: Mapping[str, Any], native: int) -> int:
        """6 to 224 pixels, different for every `input_scale`: see `architecture.input_size`."""
        return architecture.input_size(Architecture.from_params(params).input_scale, native)

    def largest(self) -> dict[str, Any]:
        """A strong network that a CPU still trains: about 12 million multiply-adds at 28 pixels."""
        first = {"depth": 2, "width": 32, "block": "separable", "kernel": 3, "attention": "se"}
        inverted = {"depth": 2, "block": "inverted", "expansion": 4, "attention": "se"}
        return {
            "input_scale": 1.0,
            "width_multiplier": 1.0,
            "activation": "hard_swish",
            "stem": {"width": 32, "kernel": 3},
            "stages": [
                first,
                {**inverted, "width": 48, "kernel": 3, "stride": 2},
                {**inverted, "width": 80, "kernel": 5, "stride": 1},
                {**inverted, "width": 128, "kernel": 3, "stride": 2},
            ],
        }

    def supernet(self) -> Supernet:
        """Elastic in depth, width, kernel, expansion and resolution: see `sharing`."""
        return Supernet(self.largest(), sharing.smallest(), sharing.whole(), sharing.shared_name)


def _suggest_int(scope: Scope, name: str, values: architecture.Ints) -> int:
    return scope.suggest_int(name, values.low, values.high, step=values.step)


def _suggest_stage(scope: Scope, index: int) -> dict[str, Any]:
    stage: dict[str, Any] = {
        "depth": _suggest_int(scope, "depth", architecture.DEPTHS),
        "width": _suggest_int(scope, "width", architecture.STAGE_WIDTHS[index]),
        "block": scope.suggest_categorical("block", BLOCKS),
        "kernel": _suggest_int(scope, "kernel", architecture.KERNELS),
        "attention": scope.suggest_categorical("attention", ATTENTIONS),
    }
    if index > 0:
        stage["stride"] = _suggest_int(scope, "stride", architecture.STRIDES)
    if stage["block"] == "inverted":
        stage["expansion"] = _suggest_int(scope, "expansion", architecture.EXPANSIONS)
    return stage


@hookimpl
def register_search_spaces(register: Callable[[SearchSpace], None]) -> None:
    register(MobileNetSpace())
