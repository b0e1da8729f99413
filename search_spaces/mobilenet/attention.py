"""The attentions of a stage. Each is a plain module with fixed shapes, so that it exports with a dynamic batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .architecture import channels
from .layers import conv_bn, start_small

POOLED_SIDE = 7


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all channels' means (Hu et al. 2018, equations 2 to 4).

    The gate is a hard sigmoid, as in MobileNetV3: cheaper, and exact in int8.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = channels(width, 0.25)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, width, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[B, width, H, W]` to the same shape."""
        gated: Tensor = x * self.gate(x)
        return gated


class SpatialAttention(nn.Module):
    """Scales each position by a gate from its mean and largest channel (CBAM, Woo et al. 2018, equation 3)."""

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` to the same shape, for any C."""
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        gated: Tensor = x * self.gate(self.conv(summary))
        return gated


class SelfAttention(nn.Module):
    """Multi-head self-attention over the positions of a map of side `side`, with a residual connection.

    Scaled dot-product attention (Vaswani et al. 2017, equation 1) whose keys and values come from the map averaged
    to at most 7 x 7, as spatial reduction does in PVT (Wang et al. 2021, equation 3): the cost is linear in the
    positions. Queries, keys, values and projection are 1 x 1 convolutions.

    The outputs of `query`, `key` and `value` are split into heads, so their channels must not be cut one by one: they
    carry the attribute `nas_edge_keep_channels = True`. Their inputs may be cut, and so may whole heads: `heads`,
    `head_outputs` and `head_inputs` say where they are, in the terms of structured pruning (its `HeadedAttention`).
    """

    head_outputs = ("query", "key", "value")
    head_inputs = ("project.0",)

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.head_width = 16 if width % 16 == 0 else 8
        self.heads = width // self.head_width
        self.side = side
        factor = -(-side // POOLED_SIDE)
        self.pooled_side = -(-side // factor)
        # Half of what the last window lacks, at each end: all of the map is covered, and averages leave padding out.
        padding = -(-(self.pooled_side * factor - side) // 2)
        self.pool = nn.AvgPool2d(factor, padding=padding, count_include_pad=False) if factor > 1 else nn.Identity()
        self.query = nn.Conv2d(width, width, 1, bias=False)
        self.key = nn.Conv2d(width, width, 1, bias=False)
        self.value = nn.Conv2d(width, width, 1, bias=False)
        for conv in (self.query, self.key, self.value):
            conv.nas_edge_keep_channels = True  # type: ignore[assignment]
        self.project = conv_bn(width, width)
        start_small(self.project)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, width, side, side]` to the same shape."""
        pooled = self.pool(x)
        positions, keys = self.side**2, self.pooled_side**2
        query = self.query(x).reshape(-1, self.heads, self.head_width, positions)
        key = self.key(pooled).reshape(-1, self.heads, self.head_width, keys)
        value = self.value(pooled).reshape(-1, self.heads, self.head_width, keys)
        scores = query.transpose(2, 3) @ key * self.head_width**-0.5
        mixed = value @ scores.softmax(-1).transpose(2, 3)
        out: Tensor = x + self.project(mixed.reshape(-1, self.heads * self.head_width, self.side, self.side))
        return out
