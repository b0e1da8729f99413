"""k-means of numbers: where the centroids of a codebook lie."""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 50
INITIALISATIONS = ("linear", "kmeans++")


def kmeans(values: Tensor, count: int, initialisation: str, seed: int, iterations: int = ITERATIONS) -> Tensor:
    """`count` centroids of `values` `[n]`, ascending, float64: Lloyd's algorithm on sorted numbers.

    `initialisation` "linear" spreads them evenly from the least to the greatest value, which keeps the few large
    weights represented (Han et al. 2016, section 3.2); "kmeans++" draws them with probability proportional to the
    squared distance to the nearest one drawn before (Arthur & Vassilvitskii 2007), by `seed`. A centroid that no
    value is nearest to stays where it is.
    """
    values = values.detach().double().cpu().sort().values
    if not len(values):
        return torch.zeros(count, dtype=torch.float64)
    centroids = _spread(values, count) if initialisation == "linear" else _drawn(values, count, seed)
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    for _ in range(iterations):
        middles = (centroids[1:] + centroids[:-1]) / 2
        inner = torch.searchsorted(values, middles)
        borders = torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), len(values))])
        counts = borders.diff()
        means = sums[borders].diff() / counts.clamp(min=1)
        moved = torch.where(counts > 0, means, centroids).sort().values
        if torch.equal(moved, centroids):
            break
        centroids = moved
    return centroids


def _spread(values: Tensor, count: int) -> Tensor:
    if count == 1:
        return values.mean().reshape(1)
    return torch.linspace(float(values[0]), float(values[-1]), count, dtype=torch.float64)


def _drawn(values: Tensor, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    chosen = values[torch.randint(len(values), (1,), generator=generator)]
    distances = (values - chosen).square()
    for _ in range(count - 1):
        point = torch.rand(1, dtype=torch.float64, generator=generator) * distances.sum()
        place = torch.searchsorted(distances.cumsum(0), point, right=True).clamp(max=len(values) - 1)
        chosen = torch.cat([chosen, values[place]])
        distances = torch.minimum(distances, (values - values[place]).square())
    return chosen.sort().values
