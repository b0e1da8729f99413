"""Rules that choose ranks, against closed forms and against trying every rank."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from nas_edge import Context
from nas_edge_plugins.low_rank import LowRank, LowRankConfig
from nas_edge_plugins.low_rank.layers import macs_of, weights_of
from nas_edge_plugins.low_rank.methods import ways
from nas_edge_plugins.low_rank.ranks import Choice, by_energy, by_ratio

from .low_rank_toys import drawn, on_images
from .toys import parameter_count

SIZES = [(9, 8)]


def pointwise(values: list[float], outputs: int, inputs: int) -> nn.Conv2d:
    """A 1 x 1 convolution with these singular values."""
    layer = nn.Conv2d(inputs, outputs, 1, bias=False)
    left, _, right = torch.linalg.svd(drawn(outputs, inputs).double(), full_matrices=False)
    weight = left[:, : len(values)] * torch.tensor(values, dtype=torch.float64) @ right[: len(values)]
    layer.weight = nn.Parameter(weight.float()[:, :, None, None])
    return layer


def full() -> nn.Conv2d:
    layer = nn.Conv2d(16, 20, 3, padding=1, bias=False)
    layer.weight = nn.Parameter(drawn(20, 16, 3, 3))
    return layer


def chosen(layer: nn.Conv2d, config: LowRankConfig) -> Choice | None:
    methods = ways(layer, config, sweeps=60, seed=0)
    if config.rank_by == "ratio":
        return by_ratio(methods, SIZES, config.ratio)
    return by_energy(methods, SIZES, config.energy)


@pytest.mark.parametrize(
    ("energy", "multiple", "rank"),
    [(0.5, 1, 1), (0.64, 1, 1), (0.65, 1, 2), (0.9, 1, 2), (0.99, 1, 3), (0.5, 2, 2), (0.99, 2, 4), (0.3, 5, 5)],
)
def test_rank_by_energy(energy: float, multiple: int, rank: int) -> None:
    layer = pointwise([8.0, 5.8, 1.5], 24, 20)  # shares 0.641, 0.337 and 0.023
    found = chosen(layer, LowRankConfig(energy, multiple))
    assert found is not None
    assert found.ranks == (rank,)


@pytest.mark.parametrize("energy", [0.6, 0.9])
def test_a_rank_less_would_keep_less_than_asked(energy: float) -> None:
    layer = nn.Linear(60, 40)
    layer.weight = nn.Parameter(drawn(40, 30) @ drawn(30, 60, seed=1))
    values = np.linalg.svd(layer.weight.detach().double().numpy(), compute_uv=False)
    shares = np.cumsum(values**2) / (values**2).sum()
    found = by_energy(ways(layer, LowRankConfig(rank_multiple=1), 0, 0), [(1, 1)], energy)
    assert found is not None
    assert shares[found.ranks[0] - 2] < energy <= shares[found.ranks[0] - 1]


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("multiple", [1, 4])
@pytest.mark.parametrize(
    ("method", "kernel", "each"),
    [
        ("svd", "joint", 16 + 20),
        ("spatial", "joint", 3 * 16 + 3 * 20),
        ("cp", "joint", 16 + 9 + 20),
        ("cp", "separable", 16 + 6 + 20),
    ],
)
def test_rank_by_ratio(method: str, kernel: str, each: int, multiple: int, ratio: float) -> None:
    """The largest multiple with `rank * each` of `ratio` of the weights."""
    layer = full() if method != "svd" else pointwise([1.0] * 16, 20, 16)
    rank = math.floor(ratio * layer.weight.numel() / each) // multiple * multiple
    config = LowRankConfig(rank_multiple=multiple, method=method, rank_by="ratio", ratio=ratio, cp_kernel=kernel)
    methods = ways(layer, config, sweeps=1, seed=0)
    found = by_ratio(methods, SIZES, ratio)
    assert (found.ranks if found else (0,)) == (rank,)


def tucker_pairs() -> dict[tuple[int, int], tuple[int, float]]:
    """Weights and share kept of every pair of ranks, by numpy."""
    weight = full().weight.detach().double().numpy()
    left, right = (np.linalg.svd(np.moveaxis(weight, m, 0).reshape(weight.shape[m], -1))[0] for m in (0, 1))
    pairs = {}
    for r, s in itertools.product(range(1, 21), range(1, 17)):
        core = np.einsum("oiyx,or,is->rsyx", weight, left[:, :r], right[:, :s])
        size = 9 * r * s + (16 * s if s < 16 else 0) + (20 * r if r < 20 else 0)
        pairs[r, s] = size, (core**2).sum() / (weight**2).sum()
    return pairs


def test_tucker_takes_the_best_pair_of_all() -> None:
    pairs = tucker_pairs()
    for energy in (0.4, 0.6, 0.75):
        found = chosen(full(), LowRankConfig(energy, 1, "tucker2"))
        assert found is not None
        assert weights_of(found.parts) == min(size for size, kept in pairs.values() if kept >= energy)
        assert pairs[found.ranks][1] >= energy  # type: ignore[index]
    for ratio in (0.3, 0.6, 0.9):
        found = chosen(full(), LowRankConfig(rank_multiple=1, method="tucker2", rank_by="ratio", ratio=ratio))
        assert found is not None
        assert found.method.kept(found.ranks) == pytest.approx(
            max(kept for size, kept in pairs.values() if size <= ratio * full().weight.numel())
        )


def test_cp_takes_the_least_rank_that_keeps_enough() -> None:
    found = chosen(full(), LowRankConfig(0.5, 4, "cp"))
    assert found is not None
    assert found.method.kept(found.ranks) >= 0.5
    (other,) = ways(full(), LowRankConfig(rank_multiple=4, method="cp"), sweeps=60, seed=0)
    assert other.kept((found.ranks[0] - 4,)) < 0.5
    assert all(other.kept_at_most((rank,)) >= other.kept((rank,)) for rank in (2, 8, 16))


def test_auto_takes_the_fewest_multiply_adds_or_what_keeps_most() -> None:
    winners = set()
    separable = nn.Conv2d(16, 20, 3, bias=False)
    separable.weight = nn.Parameter(torch.einsum("riy,orx->oiyx", drawn(4, 16, 3), drawn(20, 4, 3, seed=1)))
    few = nn.Conv2d(16, 20, 3, bias=False)
    few.weight = nn.Parameter(torch.einsum("rsyx,or,is->oiyx", drawn(5, 5, 3, 3), drawn(20, 5), drawn(16, 5)))
    for layer, rule in itertools.product((separable, few, full()), ("energy", "ratio")):
        fields = {"energy": 0.7, "rank_multiple": 1, "rank_by": rule, "ratio": 0.3}
        single = [chosen(layer, LowRankConfig(method=m, **fields)) for m in ("spatial", "tucker2", "cp")]  # type: ignore[arg-type]
        best = chosen(layer, LowRankConfig(method="auto", **fields))  # type: ignore[arg-type]
        assert best is not None
        if rule == "energy":
            fewest = min(macs_of(c.parts, SIZES) for c in single if c)
            assert macs_of(best.parts, SIZES) == fewest
        else:
            assert best.method.kept(best.ranks) == pytest.approx(max(c.method.kept(c.ranks) for c in single if c))
        winners.add(best.method.name)
    assert len(winners) >= 2


@pytest.mark.parametrize("method", ["spatial", "tucker2", "cp"])
def test_a_ratio_bounds_the_weights_that_are_left(method: str, context: Context) -> None:
    model = nn.Sequential(*on_images(full()), nn.Linear(20, 40))
    config = LowRankConfig(rank_multiple=2, method=method, rank_by="ratio", ratio=0.4)
    factored = LowRank().structure(model, config, context)
    assert isinstance(factored, nn.Sequential)
    assert 0.3 * 2880 < parameter_count(factored[1]) <= 0.4 * 2880
    assert sum(p.numel() for p in factored[4].parameters() if p.ndim == 2) <= 0.4 * 800
    used = ", ".join(f"1 by {name}" for name in sorted(("svd", method)))
    assert context.notes == [f"factored 2 of 2 linear, pointwise and full convolution layers ({used})"]


def test_a_ratio_that_no_rank_reaches_is_said(context: Context) -> None:
    config = LowRankConfig(rank_multiple=8, rank_by="ratio", ratio=0.3)
    factored = LowRank().structure(on_images(nn.Linear(16, 24)), config, context)
    assert type(factored.get_submodule("1")) is nn.Linear
    assert context.notes == [
        "factored 0 of 1 linear and pointwise layers; left alone, for no rank leaves at most 30% of their weights: 1"
    ]
