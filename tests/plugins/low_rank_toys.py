"""What the tests of low rank share: drawn weights, and a network around one layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .toys import CHANNELS


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Spread(nn.Module):
    """Images in other channels, each a mixture of theirs; none of its weights is a layer's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mixture", drawn(channels, CHANNELS, 1, 1, seed=1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.get_buffer("mixture"))


def on_images(layer: nn.Linear | nn.Conv2d) -> nn.Sequential:
    """A network of one layer, `1`: images, in as many channels as it takes, to the mean of each output."""
    if isinstance(layer, nn.Linear):
        spread = Spread(layer.in_features)
        return nn.Sequential(nn.Sequential(spread, nn.AdaptiveAvgPool2d(1), nn.Flatten()), layer)
    return nn.Sequential(Spread(layer.in_channels), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def chain_in(model: nn.Module, name: str = "1") -> list[nn.Conv2d]:
    """The convolutions that stand in the place of a layer."""
    chain = model.get_submodule(name)
    assert isinstance(chain, nn.Sequential)
    parts = [part for part in chain if isinstance(part, nn.Conv2d)]
    assert len(parts) == len(chain)
    return parts
