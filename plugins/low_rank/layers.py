"""A layer that can be factored, and the chain of smaller layers that stands in its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

KEEP_MARK = "nas_edge_keep_channels"
Layer = nn.Linear | nn.Conv2d
Pair = tuple[int, int]
READ_BY_THEIR_OWNER = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)  # they read their layers' weights


@dataclass(frozen=True)
class Part:
    """One convolution of a chain; a linear layer counts as a 1 x 1 convolution. Pairs are vertical, horizontal."""

    inputs: int
    outputs: int
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of its weight: `[outputs, inputs / groups, height, width]`."""
        return (self.outputs, self.inputs // self.groups, *self.kernel)

    @property
    def weights(self) -> int:
        return math.prod(self.shape)

    def output_size(self, size: Pair) -> Pair:
        """The height and width that it gives for those it is given."""
        height, width = (
            (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for side, kernel, stride, padding, dilation in zip(
                size, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return height, width


def weights_of(parts: Sequence[Part]) -> int:
    return sum(part.weights for part in parts)


def macs_of(parts: Sequence[Part], sizes: Sequence[Pair]) -> int:
    """The multiply-adds of a chain, for one image of each of these heights and widths."""
    total = 0
    for size in sizes:
        for part in parts:
            size = part.output_size(size)
            total += math.prod(size) * part.weights
    return total


def is_matrix(layer: nn.Module) -> bool:
    """Whether a layer is a plain matrix: Linear, or a 1x1 convolution without groups. Subclasses may hide more."""
    if type(layer) is nn.Linear:
        return True
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == (1, 1)
        and layer.groups == 1
        and (layer.padding_mode == "zeros" or layer.padding in ((0, 0), "valid", "same"))
    )


def is_full_convolution(layer: nn.Module) -> bool:
    """Whether a layer is a plain convolution over more than a pixel, without groups, padded alike on both sides."""
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size != (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and _padding(layer) is not None
    )


def _padding(layer: nn.Conv2d) -> Pair | None:
    """The zeros added on each side, or None where "same" adds more on one side than on the other."""
    if not isinstance(layer.padding, str):
        vertical, horizontal = layer.padding
        return vertical, horizontal
    if layer.padding == "valid":
        return 0, 0
    halves = [
        divmod(dilation * (kernel - 1), 2) for dilation, kernel in zip(layer.dilation, layer.kernel_size, strict=True)
    ]
    (vertical, odd_rows), (horizontal, odd_columns) = halves
    return None if odd_rows or odd_columns else (vertical, horizontal)


def whole(layer: Layer) -> Part:
    """The layer itself as a part."""
    if isinstance(layer, nn.Linear):
        return Part(layer.in_features, layer.out_features)
    padding = _padding(layer)
    assert padding is not None, "is_full_convolution() says no to it"
    (height, width), (down, right), (tall, wide) = layer.kernel_size, layer.stride, layer.dilation
    shape = (height, width), (down, right), padding, (tall, wide)
    return Part(layer.in_channels, layer.out_channels, *shape, groups=layer.groups)


def chain(layer: Layer, parts: Sequence[Part], weights: Sequence[Tensor]) -> nn.Sequential:
    """The layers that take the place of one, with these weights.

    All but the last are without a bias, so that the zeros which pad their outputs are those of the padded image; the
    last has the layer's.
    """
    with torch.random.fork_rng(devices=[]):  # new layers draw initial weights
        layers = [_new(layer, part, bias=False) for part in parts[:-1]]
        layers.append(_new(layer, parts[-1], bias=layer.bias is not None))
    trains = layer.weight.requires_grad
    for new, weight in zip(layers, weights, strict=True):
        shaped = weight.reshape(new.weight.shape).to(layer.weight).contiguous()
        new.weight = nn.Parameter(shaped, requires_grad=trains)
    if layer.bias is not None:
        layers[-1].bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=layer.bias.requires_grad)
    made = nn.Sequential(*layers).train(layer.training)
    if hasattr(layer, KEEP_MARK):
        for part in (made, layers[-1]):
            setattr(part, KEEP_MARK, getattr(layer, KEEP_MARK))
    return made


def _new(like: Layer, part: Part, bias: bool) -> Layer:
    if isinstance(like, nn.Linear):
        return nn.Linear(part.inputs, part.outputs, bias=bias)
    return nn.Conv2d(
        part.inputs,
        part.outputs,
        part.kernel,
        stride=part.stride,
        padding=part.padding,
        dilation=part.dilation,
        groups=part.groups,
        bias=bias,
    )
