"""The kit's small networks, and one whose attention has heads that can be cut, for the tests of the techniques."""

from __future__ import annotations

from torch import nn

from nas_edge.testing import networks
from nas_edge.testing.given import ToyTrainer, images, inputs, toy_context, toy_data
from nas_edge.testing.networks import (
    CHANNELS,
    CLASSES,
    SIDE,
    Residual,
    SqueezeExcite,
    conv,
    head,
)
from nas_edge.testing.networks import NETWORKS as TOYS
from nas_edge_spaces.mobilenet.attention import SelfAttention

__all__ = [
    "CHANNELS",
    "CLASSES",
    "SIDE",
    "TOYS",
    "Residual",
    "SqueezeExcite",
    "ToyTrainer",
    "conv",
    "every_block",
    "head",
    "images",
    "inputs",
    "parameter_count",
    "toy",
    "toy_context",
    "toy_data",
]


def every_block() -> nn.Module:
    """One of each block; the self-attention is mobilenet's, with heads."""
    return networks.every_block(lambda: SelfAttention(64, SIDE // 4))


def toy(name: str, resolution: int = SIDE) -> nn.Sequential:
    """One of the networks behind its preprocessing, in training mode, with statistics as if it had been trained."""
    return networks.made((TOYS | {every_block.__name__: every_block})[name], resolution)


def parameter_count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
