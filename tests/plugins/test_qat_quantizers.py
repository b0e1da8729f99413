"""The grids of quantization in training: their values, their gradients, and how their steps are found."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_edge_plugins.qat.insert import fitted_range
from nas_edge_plugins.qat.quantizers import (
    ActivationQuantizer,
    FreezeRanges,
    RoundActivation,
    RoundWeight,
    WeightQuantizer,
    fitted_steps,
    largest_code,
    largest_steps,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def quantizer(low: float, high: float, *, learned: bool = True, limit: float | None = None) -> ActivationQuantizer:
    return ActivationQuantizer(low, high, learned=learned, limit=limit)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("learned", [True, False])
def test_weights_take_the_values_of_a_symmetric_grid(bits: int, learned: bool) -> None:
    weight = drawn(6, 4, 3, 3)
    rounder = WeightQuantizer(weight, bits, learned=learned)
    found = rounder(weight).detach().numpy()
    step = rounder.log2_steps(weight).exp2().detach().numpy().reshape(-1, 1, 1, 1)
    largest = 2 ** (bits - 1) - 1
    assert largest_code(bits) == largest
    np.testing.assert_array_equal(found, np.clip(np.rint(weight.numpy() / step), -largest, largest) * step)
    assert all(len(np.unique(channel)) <= 2**bits - 1 for channel in found)
    if not learned:
        np.testing.assert_allclose(np.abs(found).max((1, 2, 3)), np.abs(weight.numpy()).max((1, 2, 3)), rtol=1e-6)


def test_gradients_of_a_weight_are_those_of_lsq() -> None:
    """In closed form: g where |w / s| <= Q; for s, g (q - w / s) there and g q elsewhere."""
    weight = drawn(5, 3, 3, 3).requires_grad_()
    log2_step = torch.linspace(-1.5, -0.3, 5).requires_grad_()
    given = drawn(5, 3, 3, 3, seed=1)
    RoundWeight.apply(weight, log2_step, 3).backward(given)  # type: ignore[no-untyped-call]
    w, g = weight.detach().double().numpy().reshape(5, -1), given.double().numpy().reshape(5, -1)
    s = 2.0 ** log2_step.detach().double().numpy()[:, None]
    inside = np.abs(w / s) <= 3
    assert inside.any()
    assert not inside.all()
    of_step = np.where(inside, np.rint(w / s) - w / s, 3 * np.sign(w))
    assert weight.grad is not None
    assert log2_step.grad is not None
    np.testing.assert_array_equal(weight.grad.numpy().reshape(5, -1), (g * inside).astype(np.float32))
    np.testing.assert_allclose(log2_step.grad.numpy(), (g * of_step).sum(1) * s[:, 0] * math.log(2), rtol=1e-5)


def test_learned_steps_follow_the_size_of_the_weights() -> None:
    weight = drawn(6, 4, 3, 3)
    rounder = WeightQuantizer(weight, 4, learned=True)
    torch.testing.assert_close(rounder.log2_steps(weight).exp2(), fitted_steps(weight, 7))
    torch.testing.assert_close(rounder(3 * weight), 3 * rounder(weight))
    loss = (rounder(weight) * drawn(6, 4, 3, 3, seed=1)).sum()
    (found,) = torch.autograd.grad(loss, rounder.log2_ratio)
    log2_step = rounder.log2_steps(weight).detach().requires_grad_()
    again = (RoundWeight.apply(weight, log2_step, 7) * drawn(6, 4, 3, 3, seed=1)).sum()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found, torch.autograd.grad(again, log2_step)[0])


def test_gradients_of_an_activation_are_those_of_the_straight_through_estimator() -> None:
    """Against torch's own differentiation of the formula with the rounding's error held constant."""
    x, log2_step = (0.4 * drawn(4, 3, 8, 8)).requires_grad_(), torch.tensor(-8.3, requires_grad=True)
    zero = torch.tensor(100, dtype=torch.int32)
    given = drawn(4, 3, 8, 8, seed=1)
    found = RoundActivation.apply(x, log2_step, zero)  # type: ignore[no-untyped-call]
    found.backward(given)
    again, other = x.detach().clone().requires_grad_(), log2_step.detach().clone().requires_grad_()
    scaled = again / other.exp2()
    codes = scaled + (scaled.round() - scaled).detach() + 100
    expected = (codes.clamp(0, 255) - 100) * other.exp2()
    expected.backward(given)
    assert (found == found.max()).sum() > 10  # some are cut off at each end
    assert (found == found.min()).sum() > 10
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(x.grad, again.grad)
    torch.testing.assert_close(log2_step.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_rounding_again_changes_neither_values_nor_gradients() -> None:
    x = (3 * drawn(1000)).requires_grad_()
    round_ = quantizer(-1.0, 2.0)
    once = round_(x)
    twice = round_(once)
    assert torch.equal(once, twice)
    (of_once,) = torch.autograd.grad(once.sum(), x, retain_graph=True)
    (of_twice,) = torch.autograd.grad(twice.sum(), x)
    assert torch.equal(of_once, of_twice)


def test_half_precision_is_rounded_in_single() -> None:
    """Under autocast activations are bfloat16: its 8 bits of mantissa cannot tell the codes apart."""
    x = drawn(4, 3, 8, 8).bfloat16().requires_grad_()
    round_ = quantizer(-2.0, 2.5)
    found = round_(x)
    found.sum().backward()
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, round_(x.float()).bfloat16())
    assert round_.log2_step.grad is not None
    assert round_.log2_step.grad.dtype == torch.float32


def test_zero_is_on_every_grid() -> None:
    for low, high in [(-1.3, 2.1), (0.0, 5.0), (-3.0, 0.0), (0.5, 4.0), (-4.0, -0.5)]:
        round_ = quantizer(low, high)
        assert round_(torch.zeros(1)).item() == 0
        assert 0 <= int(round_.zero_point) <= 255
        values = round_(torch.linspace(-10, 10, 5001)).detach()
        step = (max(high, 0) - min(low, 0)) / 255
        assert values.min() == pytest.approx(min(low, 0), abs=step)
        assert values.max() == pytest.approx(max(high, 0), abs=step)
        assert len(values.unique()) <= 256


def test_fitted_steps_have_the_least_squared_error() -> None:
    weight = drawn(4, 200)
    steps = fitted_steps(weight, 3)

    def error(step: Tensor) -> Tensor:
        rounded = (weight / step[:, None]).round().clamp(-3, 3) * step[:, None]
        return (rounded - weight).square().sum(1)

    shares = torch.linspace(0.3, 1, 400)
    least = torch.stack([error(share * largest_steps(weight, 3)) for share in shares]).amin(0)
    assert (error(steps) <= 1.02 * least).all()
    assert (error(steps) < 0.8 * error(largest_steps(weight, 3))).all()


def test_a_fitted_range_cuts_off_what_costs_more_than_it_gives() -> None:
    samples = torch.cat([torch.rand(10_000, generator=torch.Generator().manual_seed(0)), torch.tensor([1.9])])
    extremes = samples.min(), samples.max()
    low, high = fitted_range(samples[:-1], torch.tensor(0.0), torch.tensor(1.0))
    assert low == 0
    assert high == pytest.approx(1.0, abs=0.03)
    low, high = fitted_range(torch.cat([samples] * 5), *extremes)
    assert low == 0
    assert high > 1.8  # one value far out of ten thousand still weighs more than finer steps
    many = torch.rand(2_000_000, generator=torch.Generator().manual_seed(0))
    assert fitted_range(many, torch.tensor(0.0), torch.tensor(1.9))[1] < 1.1


def test_learning_follows_the_values_and_stops_at_the_limit() -> None:
    x = 6 * torch.rand(4096, generator=torch.Generator().manual_seed(0))
    for limit, most in ((None, math.inf), (6.0, 6.0)):
        round_ = quantizer(0.0, 1.0, limit=limit)  # by far too narrow
        optimizer = torch.optim.Adam(round_.parameters(), 0.05)
        for _ in range(100):
            optimizer.zero_grad()
            (round_(x) - x).square().mean().backward()
            optimizer.step()
        highest = 255 * float(round_.log2_step.detach().exp2())
        assert 5.5 < highest < 7
        round_(x)
        assert 255 * float(round_.log2_step.detach().exp2()) <= most
    far = quantizer(0.0, 6.0, limit=6.0)
    with torch.no_grad():
        far.log2_step += 3
    far(x)
    assert 5.9999 < 255 * float(far.log2_step.detach().exp2()) <= 6


def test_observed_ranges_are_moving_averages_until_they_are_frozen() -> None:
    model = nn.Sequential(quantizer(0.0, 1.0, learned=False))
    low, high = 0.0, 1.0
    for seed in range(5):
        x = drawn(100, seed=seed)
        model(x)
        low, high = low + 0.05 * (float(x.min()) - low), high + 0.05 * (float(x.max()) - high)
    first = model[0]
    assert isinstance(first, ActivationQuantizer)
    assert float(first.low) == pytest.approx(low, rel=1e-5)
    assert float(first.high) == pytest.approx(high, rel=1e-5)
    assert float(first.log2_step.detach().exp2()) == pytest.approx((high - low) / 255, rel=1e-5)
    assert not [p for p in model.parameters() if p.requires_grad]
    model.eval()
    before = float(first.low)
    model(drawn(100, seed=9))
    assert float(first.low) == before
    model.train()
    schedule = FreezeRanges()
    for epoch, frozen in ((1, False), (2, False), (3, True), (4, True)):
        schedule.epoch_end(model, epoch, 4)
        assert first.frozen == frozen
    model(drawn(100, seed=9))
    assert float(first.low) == before


def test_a_single_epoch_is_frozen_at_its_end() -> None:
    model = nn.Sequential(quantizer(0.0, 1.0, learned=False))
    FreezeRanges().epoch_end(model, 1, 1)
    assert model[0].frozen
