"""MobileNet-style networks for small images: the blocks of V1 (Howard et al. 2017, table 1), V2 (Sandler et al. 2018,
table 2; in widths) and V3 (Howard et al. 2019, table 2), few and wide.

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
    return nn.Sequential(*layers, conv(channels, HEAD, kernel_size=1), *_classifier(num_classes))


def mobilenet_v1(in_channels: int, num_classes: int) -> nn.Module:
    """The same stages of depthwise separable convolutions with ReLU."""
    nas_edge.import_torchvision()
    from torchvision.ops import Conv2dNormActivation

    conv = Conv2dNormActivation
    layers: list[nn.Module] = [conv(in_channels, STEM, stride=STEM_STRIDE)]
    channels = STEM
    for _, filters, blocks, stride in STAGES:
        for block in range(blocks):
            layers += [conv(channels, channels, stride=stride if block == 0 else 1, groups=channels)]
            layers += [conv(channels, filters, kernel_size=1)]
            channels = filters
    return nn.Sequential(*layers, conv(channels, HEAD, kernel_size=1), *_classifier(num_classes))


def mobilenet_v3(in_channels: int, num_classes: int) -> nn.Module:
    """The same stages of inverted residuals with squeeze-excite and hard-swish."""
    nas_edge.import_torchvision()
    from torchvision.models.mobilenetv3 import InvertedResidual, InvertedResidualConfig
    from torchvision.ops import Conv2dNormActivation

    conv = partial(Conv2dNormActivation, activation_layer=nn.Hardswish)
    layers: list[nn.Module] = [conv(in_channels, STEM, stride=STEM_STRIDE)]
    channels = STEM
    for expansion, filters, blocks, stride in STAGES:
        for block in range(blocks):
            steps = stride if block == 0 else 1
            shape = InvertedResidualConfig(channels, 3, expansion * channels, filters, True, "HS", steps, 1, 1.0)
            layers.append(InvertedResidual(shape, nn.BatchNorm2d))
            channels = filters
    return nn.Sequential(*layers, conv(channels, HEAD, kernel_size=1), *_classifier(num_classes))


def _classifier(num_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(HEAD, num_classes)]


def fashion_mnist() -> nn.Module:
    """MobileNetV2's blocks for 28 px and one channel."""
    return mobilenet_v2(1, 10)


def fashion_mnist_v1() -> nn.Module:
    return mobilenet_v1(1, 10)


def fashion_mnist_v3() -> nn.Module:
    return mobilenet_v3(1, 10)


def cifar10() -> nn.Module:
    """MobileNetV2's blocks for 32 px and three channels."""
    return mobilenet_v2(3, 10)
