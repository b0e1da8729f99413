"""Small networks with each of the structures that a technique must get right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nas_edge.data.preprocess import Preprocess

CLASSES, CHANNELS, SIDE = 5, 3, 16


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


def head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES)]


class Residual(nn.Module):
    """Adds its input."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class SqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // 2, 1),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gate(x)
        return out


class SpatialAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        out: Tensor = x * self.conv(summary).sigmoid()
        return out


class SelfAttention(nn.Module):
    """Two heads; the outputs of query, key and value are reshaped into them, so they are marked."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.query, self.key, self.value = (nn.Conv2d(width, width, 1) for _ in range(3))
        for layer in (self.query, self.key, self.value):
            layer.nas_edge_keep_channels = True  # type: ignore[assignment]
        self.project = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        side = x.shape[-1]
        query, key, value = (
            f(x).reshape(-1, 2, self.width // 2, side * side) for f in (self.query, self.key, self.value)
        )
        scores = (query.transpose(2, 3) @ key * (self.width // 2) ** -0.5).softmax(-1)
        mixed = (value @ scores.transpose(2, 3)).reshape(-1, self.width, side, side)
        out: Tensor = x + self.project(mixed)
        return out


def plain() -> nn.Module:
    """Convolutions, and a classifier on the flattened map: four features a channel."""
    return nn.Sequential(
        *conv(CHANNELS, 32, stride=2),
        nn.ReLU(),
        *conv(32, 48, stride=2),
        nn.ReLU(),
        *conv(48, 64),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, CLASSES),
    )


def depthwise() -> nn.Module:
    return nn.Sequential(
        *conv(CHANNELS, 32, stride=2),
        nn.ReLU6(),
        *conv(32, 32, groups=32),
        nn.ReLU6(),
        *conv(32, 64, 1),
        nn.ReLU6(),
        *head(64),
    )


def inverted_residual() -> nn.Module:
    def block(width: int) -> nn.Module:
        wide = 3 * width
        return Residual(
            *conv(width, wide, 1),
            nn.Hardswish(),
            *conv(wide, wide, groups=wide),
            nn.Hardswish(),
            *conv(wide, width, 1),
        )

    return nn.Sequential(*conv(CHANNELS, 24, stride=2), nn.Hardswish(), block(24), block(24), *head(24))


def squeeze_excite() -> nn.Module:
    return nn.Sequential(
        *conv(CHANNELS, 32, stride=2),
        nn.Hardswish(),
        Residual(*conv(32, 64, 1), nn.Hardswish(), SqueezeExcite(64), *conv(64, 32, 1)),
        *head(32),
    )


def spatial_attention() -> nn.Module:
    return nn.Sequential(
        *conv(CHANNELS, 32, stride=2), nn.ReLU(), SpatialAttention(), *conv(32, 48), nn.ReLU(), *head(48)
    )


def self_attention() -> nn.Module:
    return nn.Sequential(
        *conv(CHANNELS, 32, stride=4), nn.ReLU(), SelfAttention(32), *conv(32, 48, 1), nn.ReLU(), *head(48)
    )


def every_block(attention: Callable[[], nn.Module] | None = None) -> nn.Module:
    """One of each: plain, depthwise, residual with squeeze-excite, spatial attention, self-attention of 64 channels."""
    return nn.Sequential(
        *conv(CHANNELS, 32, stride=2),
        nn.Hardswish(),
        *conv(32, 32, groups=32),
        nn.ReLU6(),
        *conv(32, 48, 1),
        nn.ReLU(),
        Residual(
            *conv(48, 96, 1),
            nn.Hardswish(),
            *conv(96, 96, groups=96),
            nn.Hardswish(),
            SqueezeExcite(96),
            *conv(96, 48, 1),
        ),
        SpatialAttention(),
        *conv(48, 64, stride=2),
        nn.ReLU(),
        attention() if attention else SelfAttention(64),
        *head(64),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    f.__name__: f for f in (plain, depthwise, inverted_residual, squeeze_excite, spatial_attention, self_attention)
}


def made(network: Callable[[], nn.Module], resolution: int = SIDE) -> nn.Sequential:
    """A network behind its preprocessing, in training mode, with statistics as if it had been trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = network()
        for module in body.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
                module.running_var = torch.empty(module.num_features).uniform_(0.3, 1.0)
    return nn.Sequential(Preprocess([0.5] * CHANNELS, [0.25] * CHANNELS, SIDE, resolution), body)
