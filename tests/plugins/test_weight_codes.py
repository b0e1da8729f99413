"""Weight codes in training: which values weights take, and what gradients reach what is trained."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from nas_edge_plugins.weight_codes.codes import (
    Binary,
    Codebook,
    Logarithmic,
    Ternary,
    TrainedTernary,
    Uniform,
)
from nas_edge_plugins.weight_codes.kmeans import kmeans
from nas_edge_plugins.weight_codes.straight_through import WeightCode

Array = npt.NDArray[np.float64]
per_channel = pytest.mark.parametrize("per_channel", [True, False])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def groups(weight: Tensor, per_channel: bool) -> Array:
    """The weights that share a unit, in rows, by numpy."""
    values = weight.detach().numpy().astype(np.float64)
    return values.reshape(len(values) if per_channel else 1, -1)


def given(code: WeightCode, weight: Tensor, per_channel: bool) -> Array:
    return groups(code(weight), per_channel)


def gradients(code: WeightCode, weight: Tensor) -> tuple[Tensor, Tensor]:
    """That of the loss by the coded weight, drawn, and what reaches the weight."""
    leaf = weight.clone().requires_grad_()
    upstream = draw(*weight.shape, seed=7)
    (code(leaf) * upstream).sum().backward()
    assert leaf.grad is not None
    return upstream, leaf.grad


def codebook(
    weight: Tensor, count: int, fixed: bool = False, per_channel: bool = True, zeros: bool = False
) -> Codebook:
    return Codebook(weight, partial(kmeans, count=count, initialisation="linear", seed=0), per_channel, zeros, fixed)


@per_channel
@pytest.mark.parametrize("bits", range(2, 9))
def test_uniform_is_the_nearest_multiple_within_range(bits: int, per_channel: bool) -> None:
    weight = draw(6, 4, 3, 3)
    code = Uniform(weight, bits, per_channel)
    rows, largest = groups(weight, per_channel), 2 ** (bits - 1) - 1
    unit = code.units(weight).detach().double().numpy().reshape(-1, 1)
    expected = np.clip(np.round(rows / unit), -largest, largest) * unit
    np.testing.assert_allclose(given(code, weight, per_channel), expected, atol=1e-7)
    assert len(code.levels()) == 2**bits - 1


@per_channel
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_uniform_units_start_at_the_least_error(bits: int, per_channel: bool) -> None:
    weight = draw(4, 8, 3, 3)
    rows, largest = groups(weight, per_channel), 2 ** (bits - 1) - 1
    found = ((given(Uniform(weight, bits, per_channel), weight, per_channel) - rows) ** 2).sum(axis=1)
    shares = np.linspace(0.1, 1, 46)[:, None, None]
    units = shares * np.abs(rows).max(axis=1, keepdims=True) / largest
    errors = ((np.clip(np.round(rows / units), -largest, largest) * units - rows) ** 2).sum(axis=2)
    np.testing.assert_allclose(found, errors.min(axis=0), rtol=1e-4)
    assert (found < errors[-1]).all() or bits == 8  # better than covering the largest weight


def test_uniform_gradients_are_those_of_a_learned_step() -> None:
    """Esser et al. 2020, equation 3; the trained number is the logarithm of the unit's growth, here 0."""
    weight = draw(5, 40)
    code = Uniform(weight, 3, True)
    upstream, found = gradients(code, weight)
    unit = code.first_units
    scaled = weight / unit
    inside = scaled.abs() <= 3
    assert 0.5 < inside.float().mean() < 1
    torch.testing.assert_close(found, upstream * inside)
    steps = torch.where(inside, scaled.round() - scaled, 3 * scaled.sign())
    torch.testing.assert_close(code.growth.grad, (upstream * steps * unit).sum(1))


@per_channel
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_logarithmic_is_the_nearest_power_of_two(bits: int, per_channel: bool) -> None:
    weight = draw(6, 50)
    code = Logarithmic(weight, bits, per_channel)
    rows = groups(weight, per_channel)
    values = given(code, weight, per_channel)
    count = 2 ** (bits - 1) - 1
    errors = []
    for lower in range(4):  # of the largest exponent that is tried
        top = np.floor(np.log2(4 / 3 * np.abs(rows).max(axis=1))) - lower
        powers = 2.0 ** (top[:, None] - np.arange(count))
        levels = np.concatenate([-powers, powers, np.zeros((len(powers), 1))], axis=1)
        near = np.abs(rows[:, :, None] - levels[:, None]).argmin(axis=2)
        chosen = np.take_along_axis(levels, near, axis=1)
        errors.append(((chosen - rows) ** 2).sum(axis=1))
    np.testing.assert_allclose(((values - rows) ** 2).sum(axis=1), np.min(errors, axis=0), rtol=1e-5)
    exponents = np.log2(np.abs(values[values != 0]))
    assert (exponents == np.round(exponents)).all()
    assert len(code.levels()) == 2 * count + 1
    upstream, found = gradients(code, weight)
    torch.testing.assert_close(found, upstream)


@per_channel
def test_ternary_is_that_of_ternary_weight_networks(per_channel: bool) -> None:
    weight = draw(6, 4, 3, 3)
    code, rows = Ternary(weight, per_channel), groups(weight, per_channel)
    expected = np.zeros_like(rows)
    for row, out in zip(rows, expected, strict=True):
        beyond = np.abs(row) > 0.7 * np.abs(row).mean()
        out[beyond] = np.sign(row[beyond]) * np.abs(row[beyond]).mean()
    np.testing.assert_allclose(given(code, weight, per_channel), expected, atol=1e-7)
    upstream, found = gradients(code, weight)
    torch.testing.assert_close(found, upstream)


@per_channel
def test_trained_ternary_values_and_gradients(per_channel: bool) -> None:
    """Zhu et al. 2017, equations 6 to 9."""
    weight = draw(6, 60)
    code = TrainedTernary(weight, per_channel)
    with torch.no_grad():
        code.magnitudes.copy_(torch.tensor([0.3, 0.6]))
    rows = groups(weight, per_channel)
    unit = np.abs(rows).max(axis=1, keepdims=True)
    positive, negative = rows > 0.05 * unit, rows < -0.05 * unit
    np.testing.assert_allclose(
        given(code, weight, per_channel), unit * (0.6 * positive - 0.3 * negative), rtol=1e-6, atol=1e-9
    )
    upstream, found = gradients(code, weight)
    slope = np.where(positive, 0.6, np.where(negative, 0.3, 1.0))
    np.testing.assert_allclose(groups(found, per_channel), groups(upstream, per_channel) * slope, rtol=1e-5, atol=1e-8)
    by_value = groups(upstream, per_channel) * unit
    assert code.magnitudes.grad is not None
    expected = [-by_value[negative].sum(), by_value[positive].sum()]
    np.testing.assert_allclose(code.magnitudes.grad.numpy(), expected, rtol=1e-4)


@per_channel
def test_binary_is_the_sign_times_the_mean_magnitude(per_channel: bool) -> None:
    weight = draw(6, 4, 3, 3)
    rows = groups(weight, per_channel)
    code = Binary(weight, per_channel, keeps_zeros=False)
    expected = np.sign(rows) * np.abs(rows).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(given(code, weight, per_channel), expected, rtol=1e-6)
    upstream, found = gradients(code, weight)
    torch.testing.assert_close(found, upstream)


@pytest.mark.parametrize("initialisation", ["linear", "kmeans++"])
def test_k_means_ends_where_lloyd_does(initialisation: str) -> None:
    values = draw(3000).double()
    numbers = values.numpy()
    found = kmeans(values, 8, initialisation, 0, iterations=300).numpy()
    assert (np.diff(found) > 0).all()
    near = np.abs(numbers[:, None] - found).argmin(axis=1)
    np.testing.assert_allclose(found, [numbers[near == k].mean() for k in range(8)], rtol=1e-12)
    error = ((numbers - found[near]) ** 2).mean()
    # Max 1960: the best 8 levels for Gaussian numbers leave 0.03454 of the variance; this ends at a local optimum.
    assert error < 1.15 * 0.03454 * numbers.var()
    assert np.array_equal(found, kmeans(values.flip(0), 8, initialisation, 0, iterations=300).numpy())


def test_k_means_starts_as_it_is_told() -> None:
    values = torch.cat([draw(200), torch.tensor([1.0])]).double()
    linear = kmeans(values, 5, "linear", 0, iterations=0)
    np.testing.assert_allclose(linear.numpy(), np.linspace(float(values.min()), 1.0, 5))
    drawn = [kmeans(values, 5, "kmeans++", seed, iterations=0) for seed in range(20)]
    assert all(set(d.tolist()) <= set(values.tolist()) for d in drawn)
    assert len({tuple(d.tolist()) for d in drawn}) > 10
    # The outlier is 1 of 201 values, but has most of the squared distance: it is drawn nearly always.
    assert sum(1.0 in d.tolist() for d in drawn) >= 17


@per_channel
def test_a_codebooks_centroids_get_the_sum_of_gradients(per_channel: bool) -> None:
    """Han et al. 2016, equation 3, with the units of the channels."""
    weight = draw(6, 4, 3, 3)
    code = codebook(weight, 8, per_channel=per_channel)
    upstream, found = gradients(code, weight)
    torch.testing.assert_close(found, upstream)
    rows, by_value = groups(weight, per_channel), groups(upstream, per_channel)
    unit = np.sqrt((rows**2).mean(axis=1, keepdims=True))
    centroids = code.centroids.detach().double().numpy()
    index = np.abs((rows / unit)[:, :, None] - centroids).argmin(axis=2)
    np.testing.assert_allclose(given(code, weight, per_channel), unit * centroids[index], rtol=1e-5)
    assert code.centroids.grad is not None
    expected = [(by_value * unit)[index == k].sum() for k in range(8)]
    np.testing.assert_allclose(code.centroids.grad.numpy(), expected, rtol=1e-4, atol=1e-7)


def test_fixed_assignments_train_the_centroids_alone() -> None:
    weight = draw(6, 40)
    fixed, free = codebook(weight, 4, fixed=True), codebook(weight, 4)
    assert torch.equal(fixed(weight), free(weight))
    assert torch.equal(fixed(weight.flip(1)), fixed(weight))
    assert not torch.equal(free(weight.flip(1)), free(weight))
    _, found = gradients(fixed, weight)
    assert not found.any()
    gradients(free, weight)
    torch.testing.assert_close(fixed.centroids.grad, free.centroids.grad)


def test_a_trained_centroid_may_pass_another() -> None:
    weight = draw(6, 40)
    code = codebook(weight, 4, per_channel=False)
    with torch.no_grad():
        code.centroids[:2] = code.centroids[:2].flip(0)
    values, unit = groups(code(weight), False), float(code.unit)
    levels = unit * code.centroids.detach().double().numpy()
    near = np.abs(groups(weight, False)[:, :, None] - levels).argmin(axis=2)
    np.testing.assert_allclose(values, levels[near], rtol=1e-5)


def test_a_channel_of_zeros_is_no_trouble() -> None:
    weight = draw(4, 30)
    weight[1] = 0
    for code in (
        Uniform(weight, 4, True),
        Logarithmic(weight, 4, True),
        Ternary(weight, True),
        TrainedTernary(weight, True),
        Binary(weight, True, keeps_zeros=True),
        codebook(weight, 7, zeros=True),
    ):
        values = code(weight)
        assert not values[1].any()
        assert values.isfinite().all()
        assert values[0].any()
