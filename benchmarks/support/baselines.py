"""MobileNetV2-style networks for small images, in widths: its blocks (Sandler et al. 2018, table 2), few and wide.

Such a network is one that int8 pays for on a CPU: in a deep and narrow one a kernel's start costs more than its sums.
"""

from __future__ import annotations

from functools import partial

from torch import nn

import nas_edge

# expansion, channels, blocks, stride of the first
STAGES = ((1, 32, 1, 1), (4, 64, 2, 1), (4, 96, 2, 2))
STEM, STEM_STRIDE, HEAD = 32, 2, 384
ROUND = 8


def mobilenet_v2(in_channels: int, num_classes: int, *, width: float = 1.0) -> nn.Module:
    """Images `[batch, in_channels, side, side]` in 0..1 to logits; `width` multiplies all channels but the head's."""
    nas_edge.import_torchvision()
    from torchvision.models.mobilenetv2 import InvertedResidual
    from torchvision.ops import Conv2dNormActivation

    def wide(channels: int) -> int:
        return max(ROUND, round(width * channels / ROUND) * ROUND)

    conv = partial(Conv2dNormActivation, activation_layer=nn.ReLU6)
    layers: list[nn.Module] = [conv(in_channels, wide(STEM), stride=STEM_STRIDE)]
    channels = wide(STEM)
    for expansion, filters, blocks, stride in STAGES:
        for block in range(blocks):
            layers.append(InvertedResidual(channels, wide(filters), stride if block == 0 else 1, expansion))
            channels = wide(filters)
    layers += [conv(channels, HEAD, kernel_size=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(HEAD, num_classes)]
    return nn.Sequential(*layers)


def fashion_mnist() -> nn.Module:
    """For 28 px and one channel."""
    return mobilenet_v2(1, 10)


def cifar10() -> nn.Module:
    """For 32 px and three channels."""
    return mobilenet_v2(3, 10)
