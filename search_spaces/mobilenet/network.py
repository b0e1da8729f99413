"""Builds the torch module of an architecture."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from nas_edge import InvalidCandidate

from .architecture import SMALLEST, Architecture, Stage, channels, stem_reductions
from .attention import SelfAttention
from .blocks import Block
from .layers import conv_bn


def build_network(arch: Architecture, in_channels: int, num_classes: int, resolution: int) -> nn.Sequential:
    """The network `[B, in_channels, resolution, resolution]` to `[B, num_classes]`, freshly initialised.

    Its children are `stem`, `stage1`, ..., `head` and `classifier`. Raises `InvalidCandidate` below 6 pixels.
    """
    if resolution < SMALLEST:
        raise InvalidCandidate(f"resolution is {resolution} pixels; mobilenet needs at least {SMALLEST}")
    reductions = stem_reductions(resolution, arch.input_scale)
    width = channels(arch.stem.width, arch.width_multiplier)
    side = _halved(resolution, reductions)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_stem(arch, in_channels, width, reductions))
    for number, stage in enumerate(arch.stages, 1):
        outputs = channels(stage.width, arch.width_multiplier)
        layers[f"stage{number}"] = _stage(stage, width, outputs, side, arch.activation)
        side = _halved(side, stage.stride - 1)
        width = outputs
    layers["head"] = conv_bn(width, 2 * width, activation=arch.activation)
    layers["classifier"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, num_classes))
    return nn.Sequential(layers)


def _halved(side: int, times: int) -> int:
    """The side of a map after convolutions of stride 2, whose padding rounds up."""
    return -(-side >> times)


def _stem(arch: Architecture, in_channels: int, width: int, reductions: int) -> nn.Sequential:
    """A convolution, which halves the image unless it is small, and a separable block for each further halving."""
    kernel, activation = arch.stem.kernel, arch.activation
    first = conv_bn(in_channels, width, kernel, stride=2 if reductions else 1, activation=activation)
    further = (
        Block(width, width, kernel=kernel, stride=2, expansion=1, attention="none", activation=activation)
        for _ in range(reductions - 1)
    )
    return nn.Sequential(first, *further)


def _stage(stage: Stage, inputs: int, outputs: int, side: int, activation: str) -> nn.Sequential:
    """The blocks of a stage, the first one with its stride and change of width.

    Self-attention comes before them and once: on the map that the stage is given, which is never a single position.
    """
    layers: list[nn.Module] = [SelfAttention(inputs, side)] if stage.attention == "self" else []
    for index in range(stage.depth):
        layers.append(
            Block(
                outputs if index else inputs,
                outputs,
                kernel=stage.kernel,
                stride=1 if index else stage.stride,
                expansion=stage.expansion,
                attention=stage.attention,
                activation=activation,
            )
        )
    return nn.Sequential(*layers)
