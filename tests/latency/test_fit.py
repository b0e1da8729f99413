"""The fit on planted coefficients, and the error that it states."""

from __future__ import annotations

import numpy as np
import pytest

from nas_edge.latency.fit import HeldOutError, fit, fit_corrected, fit_sum, held_out_errors
from nas_edge.latency.graph import FEATURES, KernelWork, Work, kernels_of
from nas_edge.latency.model import Correction, LatencyModel

from .networks import random_mobile

PLANTED = {"pointwise": (0.004, 0.05, 0.0005, 0.001, 0.002), "depthwise": (0.002, 0.2, 0.001, 0.0, 0.01)}


def planted_works(count: int) -> list[Work]:
    random = np.random.default_rng(3)
    works = []
    for _ in range(count):
        kernels = []
        for kind in PLANTED:
            for _ in range(random.integers(1, 8)):
                amounts = random.lognormal([0, 4, 3, 0.5], 1)  # mega-MACs, kilobytes, weight kilobytes, kilo-taps
                kernels.append(KernelWork("k", kind, 1, (1.0, *map(float, amounts))))
        works.append(Work(tuple(kernels), ()))
    return works


def test_planted_coefficients_are_recovered() -> None:
    works = planted_works(120)
    truth = LatencyModel(0.02, PLANTED)
    model = fit_sum(works, np.array([truth.latency_ms(w) for w in works]), shrinkage=1e-8)
    assert model.base_ms == pytest.approx(0.02, rel=0.05)
    for kind, values in PLANTED.items():
        assert model.coefficients[kind] == pytest.approx(values, rel=0.02, abs=2e-6)


def test_noise_and_an_outlier_do_not_carry_the_fit_away() -> None:
    works = planted_works(100)
    truth = LatencyModel(0.02, PLANTED)
    random = np.random.default_rng(4)
    measured = np.array([truth.latency_ms(w) for w in works]) * random.normal(1, 0.02, 100)
    measured[5] *= 3
    model = fit(works, measured)
    errors = np.array([model.latency_ms(w) / truth.latency_ms(w) - 1 for w in planted_works(140)[100:]])
    assert np.median(np.abs(errors)) < 0.02


def test_coefficients_are_never_negative() -> None:
    works = [kernels_of(random_mobile(seed)) for seed in range(30)]
    measured = np.random.default_rng(0).uniform(0.1, 2, 30)
    model = fit_sum(works, measured)
    assert model.base_ms >= 0
    assert all(value >= 0 for row in model.coefficients.values() for value in row)


def test_a_correction_mends_what_a_sum_cannot_say() -> None:
    """Networks of many kernels run slower than their sum: a factor by size, not a term."""
    works = planted_works(150)
    by_size = Correction(0.0, {"log_kernels": 0.15}, {"log_kernels": 2.2}, {"log_kernels": 0.4})
    truth = LatencyModel(0.02, PLANTED, by_size)
    measured = np.array([truth.latency_ms(w) for w in works])
    fresh = planted_works(220)[150:]

    def error(model: LatencyModel) -> float:
        return float(np.median([abs(model.latency_ms(w) / truth.latency_ms(w) - 1) for w in fresh]))

    assert error(fit_corrected(works, measured)) < 0.5 * error(fit_sum(works, measured))
    assert fit(works, measured).correction is not None


def test_a_correction_is_left_out_where_it_does_not_help() -> None:
    works = planted_works(60)
    measured = np.array([LatencyModel(0.02, PLANTED).latency_ms(w) for w in works])
    measured *= np.random.default_rng(1).normal(1, 0.03, 60)
    assert fit(works, measured).correction is None


def test_held_out_errors_are_those_of_networks_left_out() -> None:
    works = planted_works(50)
    random = np.random.default_rng(5)
    measured = random.lognormal(0, 0.5, 50)  # nothing to learn: the held-out error must say so
    model = fit_sum(works, measured)
    inside = np.median([abs(model.latency_ms(w) / m - 1) for w, m in zip(works, measured, strict=True)])
    stated = HeldOutError.of(held_out_errors(works, measured))
    assert stated.median > 0.9 * inside and stated.median > 0.2
    assert stated.networks == 50


def test_held_out_error_figures() -> None:
    error = HeldOutError.of(np.array([-0.04, 0.02, 0.07, -0.2]))
    assert (error.within5, error.within10) == (0.5, 0.75)
    assert error.median == pytest.approx(0.055)
    assert error.q90 == pytest.approx(0.161)


def test_the_kernels_add_up_with_a_correction() -> None:
    work = planted_works(1)[0]
    model = LatencyModel(0.02, PLANTED, Correction(0.1, {}, {}, {}))
    base, times = model.times_ms(work)
    assert base + sum(times) == pytest.approx(model.latency_ms(work))
    plain = LatencyModel(0.02, PLANTED)
    assert model.latency_ms(work) == pytest.approx(plain.latency_ms(work) * np.exp(0.1))
    assert len(FEATURES) == len(work.kernels[0].features)
