"""The fit on devices with known laws: what it learns, and the errors that it states."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from nas_edge.latency.fit import fit
from nas_edge.latency.graph import Work
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.networks import Networks
from nas_edge.latency.prices import fit_prices

from .synthetic import PRICES, Device, narrow_is_slow, networks

Array = npt.NDArray[np.float64]
CURVED = Device(slowness=narrow_is_slow)
FRESH = networks(80, seed=100)


def errors_of(model: LatencyModel, works: Sequence[Work], truth: Array) -> Array:
    return np.array([model.latency_ms(work) for work in works]) / truth - 1


def median(errors: Array) -> float:
    return float(np.median(np.abs(errors)))


def test_what_depends_on_sizes_is_learnt_beyond_prices() -> None:
    """No price says that few channels are slow: the kernels' sizes do."""
    works = networks(150)
    measured, truth = CURVED.latency_ms(works), CURVED.latency_ms(FRESH)
    found = Networks(works)
    prices = fit_prices(found, measured)
    plain = errors_of(LatencyModel(float(prices[0]), found.by_name(prices)), FRESH, truth)
    model, errors = fit(works, measured)
    assert median(errors) < 0.4 * median(plain)
    assert median(errors_of(model, FRESH, truth)) < 0.4 * median(plain)


def test_stated_errors_are_those_of_fresh_networks() -> None:
    works, random = networks(120), np.random.default_rng(3)
    measured = CURVED.latency_ms(works) * random.normal(1, 0.03, 120)
    fresh = networks(400, seed=7)
    model, errors = fit(works, measured)
    real = HeldOutError.of(errors_of(model, fresh, CURVED.latency_ms(fresh) * random.normal(1, 0.03, 400)))
    stated = HeldOutError.of(errors)
    assert stated.networks == 120
    assert stated.median == pytest.approx(real.median, rel=0.35)
    assert stated.q90 == pytest.approx(real.q90, rel=0.35)
    assert stated.within10 == pytest.approx(real.within10, abs=0.08)
    assert real.median > 0.015  # no model knows the noise


def test_where_there_is_nothing_to_learn_the_stated_error_says_so() -> None:
    works = networks(60)
    _, errors = fit(works, np.random.default_rng(5).lognormal(0, 0.7, 60))
    assert median(errors) > 0.3


def test_one_wild_measurement_does_not_spoil_it() -> None:
    works = networks(100)
    measured, truth = CURVED.latency_ms(works), CURVED.latency_ms(FRESH)
    clean = median(errors_of(fit(works, measured)[0], FRESH, truth))
    measured[7] *= 5
    model, errors = fit(works, measured)
    assert errors[7] < -0.6 and np.abs(errors).argmax() == 7
    assert median(errors_of(model, FRESH, truth)) < max(1.5 * clean, 0.02)


def half_as_fast() -> tuple[LatencyModel, Device]:
    """The model of one device, and another one half as fast, with some kinds a little better or worse."""
    works = networks(150, seed=20)
    earlier, _ = fit(works, CURVED.latency_ms(works))
    factors = {"pointwise": 2.1, "depthwise": 1.9, "reorder.plain": 2.0}
    slower = {kind: {n: factors[kind] * p for n, p in row.items()} for kind, row in PRICES.items()}
    return earlier, Device(0.04, slower, narrow_is_slow)


def mean_error(device: Device, count: int, start: LatencyModel | None) -> float:
    """Of fresh networks, after a calibration on so few: the mean over five draws of them."""
    truth, draws = device.latency_ms(FRESH), [networks(count, seed) for seed in range(21, 26)]
    return float(np.mean([median(errors_of(fit(w, device.latency_ms(w), start)[0], FRESH, truth)) for w in draws]))


def test_an_earlier_profile_needs_fewer_networks() -> None:
    """Less than half the error, and fifteen of them are as good as three times as many without it."""
    earlier, device = half_as_fast()
    for count in (8, 15):
        assert mean_error(device, count, earlier) < min(0.5 * mean_error(device, count, None), 0.05)
    assert mean_error(device, 15, earlier) < mean_error(device, 45, None)


def test_shape_corrections_are_carried_over() -> None:
    """What the earlier device had learnt of sizes is worth more than its prices alone."""
    earlier, device = half_as_fast()
    assert mean_error(device, 8, earlier) < 0.8 * mean_error(device, 8, replace(earlier, shapes={}, shifts={}))


def test_the_same_measurements_give_the_same_model() -> None:
    works = networks(40)
    measured = CURVED.latency_ms(works) * np.random.default_rng(1).normal(1, 0.02, 40)
    (first, errors), (second, again) = fit(works, measured), fit(works, list(measured))
    assert json.dumps(first.to_json()) == json.dumps(second.to_json())
    assert errors.tolist() == again.tolist()


def test_few_networks_of_one_kind_are_enough_to_fit() -> None:
    works = networks(8, kinds=("pointwise",))
    model, errors = fit(works, Device().latency_ms(works))
    assert np.isfinite(errors).all() and model.unknown(works[0]) == ()
    assert model.unknown(networks(1, kinds=("depthwise",))[0]) == ("depthwise",)


def test_held_out_error_figures() -> None:
    error = HeldOutError.of(np.array([-0.04, 0.02, 0.07, -0.2]))
    assert (error.within5, error.within10) == (0.5, 0.75)
    assert error.median == pytest.approx(0.055)
    assert error.q90 == pytest.approx(0.161)
