"""Preprocess against the formula by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nas_edge.data.preprocess import Preprocess


def images(size: int) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


MEAN, STD = (0.1, 0.4, 0.7), (0.2, 0.5, 1.0)


def test_normalises_each_channel() -> None:
    inputs = images(5)
    outputs = Preprocess(MEAN, STD, 5, 5)(inputs)
    for channel in range(3):
        torch.testing.assert_close(outputs[:, channel], (inputs[:, channel] - MEAN[channel]) / STD[channel])


@pytest.mark.parametrize("resolution", [4, 6, 11])
def test_resizes_bilinearly_to_the_resolution(resolution: int) -> None:
    inputs = images(6)
    normalised = torch.stack([(inputs[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)
    wanted = F.interpolate(normalised, size=(resolution, resolution), mode="bilinear", align_corners=False)
    torch.testing.assert_close(Preprocess(MEAN, STD, 6, resolution)(inputs), wanted)


def test_halving_is_the_mean_of_four_pixels() -> None:
    inputs = images(6)
    outputs = Preprocess((0.0,) * 3, (1.0,) * 3, 6, 3)(inputs)
    torch.testing.assert_close(outputs, F.avg_pool2d(inputs, 2))


def test_statistics_are_saved_with_the_model() -> None:
    module = Preprocess(MEAN, STD, 8, 4)
    assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == {
        "mean": (1, 3, 1, 1),
        "std": (1, 3, 1, 1),
    }
    assert (module.native, module.resolution) == (8, 4)
    assert not list(module.parameters())


@pytest.mark.parametrize(
    ("mean", "std", "native", "resolution", "reason"),
    [
        ((0.5,), (0.1, 0.1), 8, 8, "1 means and 2 stds"),
        ((0.5,), (0.0,), 8, 8, "positive"),
        ((0.5,), (0.1,), 8, 0, "at least 1 pixel"),
    ],
)
def test_refuses_what_makes_no_sense(
    mean: tuple[float, ...], std: tuple[float, ...], native: int, resolution: int, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        Preprocess(mean, std, native, resolution)
