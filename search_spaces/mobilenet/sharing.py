"""Which weights the networks of the space share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import architecture
from .architecture import ATTENTIONS, BLOCKS

SMALLEST, LARGEST = 0, 1  # ends of a range
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
    return _uniform(SMALLEST, architecture.STAGE_COUNTS.low, "separable", "none")


def whole() -> list[dict[str, Any]]:
    """Networks with everything at its largest: one for each block, attention and number of stages."""
    *fewer, most = architecture.STAGE_COUNTS.values()
    networks = [_uniform(LARGEST, most, block, attention) for block in BLOCKS for attention in ATTENTIONS]
    return networks + [_uniform(LARGEST, count, BLOCKS[0], "none") for count in fewer]


def _uniform(end: int, stages: int, block: str, attention: str) -> dict[str, Any]:
    """A network with every number at one end of its range, but for strides: a long one makes a network small."""
    expansion = {"expansion": architecture.EXPANSIONS[end]} if block == "inverted" else {}
    return {
        "input_scale": architecture.INPUT_SCALES[end],
        "width_multiplier": architecture.WIDTH_MULTIPLIERS[end],
        "activation": "relu",
        "stem": {"width": architecture.STEM_WIDTHS[end], "kernel": architecture.STEM_KERNELS[end]},
        "stages": [
            {
                "depth": architecture.DEPTHS[end],
                "width": architecture.STAGE_WIDTHS[index][end],
                "block": block,
                "kernel": architecture.KERNELS[end],
                "attention": attention,
                **({"stride": architecture.STRIDES[1 - end]} if index else {}),
                **expansion,
            }
            for index in range(stages)
        ],
    }
