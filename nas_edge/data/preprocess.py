"""The preprocessing that is part of every model, so that the ONNX file takes plain images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Preprocess(nn.Module):
    """Normalise each channel and, where `resolution` differs from `native`, resize bilinearly.

    Input float32 [B, C, native, native] in 0..1; output float32 [B, C, resolution, resolution] of
    `(x - mean) / std`, with `mean` and `std` of shape [1, C, 1, 1] kept as buffers. The resize is
    `torch.nn.functional.interpolate(mode="bilinear", align_corners=False, antialias=False)` by a constant scale: a size
    would be exported as arithmetic on shapes, and ONNX Runtime fuses less where it does not know a shape.

    Raises `ValueError` where `mean` and `std` differ in length, a `std` is not positive, or a size is below 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], native: int, resolution: int) -> None:
        super().__init__()
        if not mean or len(mean) != len(std):
            raise ValueError(f"one mean and one std a channel are needed, not {len(mean)} means and {len(std)} stds")
        if min(std) <= 0:
            raise ValueError(f"every std must be positive, not {list(std)}")
        if min(native, resolution) < 1:
            raise ValueError(f"native ({native}) and resolution ({resolution}) must be at least 1 pixel")
        self.native = native
        self.resolution = resolution
        self.scale = _scale(native, resolution)
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        normalised = (inputs - self.mean) / self.std
        if self.resolution == self.native:
            return normalised
        return F.interpolate(normalised, scale_factor=self.scale, mode="bilinear", align_corners=False, antialias=False)

    def extra_repr(self) -> str:
        return f"native={self.native}, resolution={self.resolution}"


def _scale(native: int, resolution: int) -> float:
    """The smallest float32 at or above `resolution / native` that gives `resolution` pixels after rounding down."""
    scale = np.float32(resolution / native)
    while int(np.float32(native) * scale) < resolution or int(native * float(scale)) < resolution:
        scale = np.nextafter(scale, np.float32(np.inf))
    return float(scale)
