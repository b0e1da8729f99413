"""Which weights the networks of the space share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import architecture
from .architecture import ATTENTIONS, BLOCKS

OF_BLOCK = ("se", "spatial")  # attentions that stand within a block


def shared_name(params: Mapping[str, Any], name: str) -> str:
    """The name of the shared weight for that of a weight in the network of `params`.

    Shared over activations, resolutions and strides as well. Each kind of block has weights of its own, for what an
    inverted residual's layers see is something else; so have the attentions, and the ends of 2, 3 and 4 stages.
    """
    part, _, rest = name.partition(".")
    if part in ("head", "classifier"):
        return f"{part}{len(params['stages'])}.{rest}"
    if not part.startswith("stage"):
        return name
    stage = params["stages"][int(part.removeprefix("stage")) - 1]
    index, _, rest = rest.partition(".")
    before = stage["attention"] == "self"
    if before and index == "0":
        return f"{part}.self.{rest}"
    _, layer, rest = rest.split(".", 2)
    return f"{part}.{int(index) - before}.{stage['block']}.{_layers(stage)[int(layer)]}.{rest}"


def _layers(stage: Mapping[str, Any]) -> list[str]:
    """The layers of a block, in their order."""
    expand = ["expand"] if stage["block"] == "inverted" else []
    attend = [stage["attention"]] if stage["attention"] in OF_BLOCK else []
    return [*expand, "depthwise", *attend, "project"]


def smallest() -> dict[str, Any]:
    """The network with the fewest multiply-adds and weights."""
    return {
        "input_scale": architecture.INPUT_SCALES.low,
        "width_multiplier": architecture.WIDTH_MULTIPLIERS.low,
        "activation": "relu",
        "stem": {"width": architecture.STEM_WIDTHS.low, "kernel": architecture.STEM_KERNELS.low},
        "stages": [
            {
                "depth": architecture.DEPTHS.low,
                "width": architecture.STAGE_WIDTHS[index].low,
                "block": "separable",
                "kernel": architecture.KERNELS.low,
                "attention": "none",
                **({"stride": architecture.STRIDES.high} if index else {}),
            }
            for index in range(architecture.STAGE_COUNTS.low)
        ],
    }


def whole() -> list[dict[str, Any]]:
    """Networks with everything at its largest: one for each block, attention and number of stages."""
    most = architecture.STAGE_COUNTS.high
    networks = [_full(most, block, attention) for block in BLOCKS for attention in ATTENTIONS]
    return networks + [_full(count, BLOCKS[0], "none") for count in architecture.STAGE_COUNTS.values()[:-1]]


def _full(stages: int, block: str, attention: str) -> dict[str, Any]:
    expansion = {"expansion": architecture.EXPANSIONS.high} if block == "inverted" else {}
    return {
        "input_scale": architecture.INPUT_SCALES.high,
        "width_multiplier": architecture.WIDTH_MULTIPLIERS.high,
        "activation": "relu",
        "stem": {"width": architecture.STEM_WIDTHS.high, "kernel": architecture.STEM_KERNELS.high},
        "stages": [
            {
                "depth": architecture.DEPTHS.high,
                "width": architecture.STAGE_WIDTHS[index].high,
                "block": block,
                "kernel": architecture.KERNELS.high,
                "attention": attention,
                **({"stride": architecture.STRIDES.low} if index else {}),
                **expansion,
            }
            for index in range(stages)
        ],
    }
