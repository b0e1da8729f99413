"""The blocks of a stage: depthwise separable (MobileNetV1) and inverted residual (MobileNetV2)."""

from __future__ import annotations

from torch import Tensor, nn

from .attention import SpatialAttention, SqueezeExcite
from .layers import conv_bn, start_small


class Block(nn.Module):
    """Expand, filter each channel, attend, project; with a residual connection where the shapes are the same.

    An `expansion` above 1 gives the inverted residual with its linear bottleneck (Sandler et al. 2018, table 1);
    1 gives the depthwise separable convolution (Howard et al. 2017, figure 3), whose output is activated.
    `attention` is "none", "se" or "spatial" and stands after the depthwise convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int, attention: str, activation: str
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        inverted = expansion > 1
        layers: list[nn.Module] = [conv_bn(inputs, hidden, activation=activation)] if inverted else []
        layers.append(conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, activation=activation))
        if attention == "se":
            layers.append(SqueezeExcite(hidden))
        elif attention == "spatial":
            layers.append(SpatialAttention())
        project = conv_bn(hidden, outputs, activation=None if inverted else activation)
        self.layers = nn.Sequential(*layers, project)
        self.residual = stride == 1 and inputs == outputs
        if self.residual:
            start_small(project)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inputs, H, W]` to `[B, outputs, ceil(H / stride), ceil(W / stride)]`."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y
