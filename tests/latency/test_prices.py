"""Prices of work from totals: exact data, kinds seen too rarely, and an earlier device."""

from __future__ import annotations

import numpy as np
import pytest

from nas_edge.latency import prices
from nas_edge.latency.graph import Work
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.networks import Networks
from nas_edge.latency.prices import fit_prices
from nas_edge.latency.walk import KernelWork

from .synthetic import PRICES, Device, kernel, networks


def test_known_prices_are_recovered_from_exact_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "NOISE", 1e-7)
    found = Networks(networks(150))
    fitted = fit_prices(found, Device().latency_ms(found.works))
    assert fitted[0] == pytest.approx(0.02, rel=0.01)
    for kind, row in found.by_name(fitted).items():
        assert row == pytest.approx(dict(PRICES[kind]), rel=0.01, abs=1e-7)


def test_the_usual_shrinkage_costs_little() -> None:
    found, fresh = Networks(networks(150)), networks(60, seed=1)
    model = plain(found, fit_prices(found, Device().latency_ms(found.works)))
    errors = [model.latency_ms(w) / ms - 1 for w, ms in zip(fresh, Device().latency_ms(fresh), strict=True)]
    assert np.abs(errors).max() < 0.15 and np.median(np.abs(errors)) < 0.04


def plain(found: Networks, fitted: np.ndarray) -> LatencyModel:
    return LatencyModel(float(fitted[0]), found.by_name(fitted))


def test_prices_are_never_negative() -> None:
    found = Networks(networks(40))
    fitted = fit_prices(found, np.random.default_rng(0).uniform(0.1, 2, 40))
    assert (fitted >= 0).all() and fitted.max() > 0


def test_the_roofline_speaks_for_a_kind_that_was_seen_once() -> None:
    """One total cannot tell four prices apart: those of the other float kinds do."""
    common = {"calls": 0.004, "mega_macs": 0.02, "kilobytes": 2e-5, "weight_kilobytes": 1e-4}
    device = Device(prices={"pointwise": common, "depthwise": common, "rare": common})
    works = networks(80, kinds=("pointwise", "depthwise"))
    works[0] = type(works[0])((*works[0].kernels, kernel("rare", 16, 32, 14)), ())
    found = Networks(works)
    fitted = found.by_name(fit_prices(found, device.latency_ms(works)))["rare"]
    assert fitted == pytest.approx(common, rel=0.1)


def test_int8_has_a_roofline_of_its_own() -> None:
    slow = {"calls": 0.004, "mega_macs": 0.04, "kilobytes": 2e-5, "weight_kilobytes": 1e-4}
    quick = {name: price / 4 for name, price in slow.items()}
    kinds = {"pointwise": slow, "depthwise": slow, "int8.pointwise": quick, "int8.depthwise": quick, "int8.rare": quick}
    works = networks(120, kinds=tuple(k for k in kinds if k != "int8.rare"))
    works[0] = type(works[0])((*works[0].kernels, kernel("int8.rare", 16, 32, 14)), ())
    found = Networks(works)
    fitted = found.by_name(fit_prices(found, Device(prices=kinds).latency_ms(works)))["int8.rare"]
    assert fitted == pytest.approx(quick, rel=0.1)


def test_a_wild_measurement_moves_the_prices_little() -> None:
    found, fresh = Networks(networks(100)), networks(60, seed=1)
    measured = Device().latency_ms(found.works)
    measured[5] *= 4
    model = plain(found, fit_prices(found, measured))
    errors = [model.latency_ms(w) / ms - 1 for w, ms in zip(fresh, Device().latency_ms(fresh), strict=True)]
    assert np.median(np.abs(errors)) < 0.02


def test_an_earlier_device_gives_its_prices_on_this_ones_scale() -> None:
    """Four networks alone say nothing of twelve prices; the earlier device says all but how much slower this one is."""
    earlier = LatencyModel(0.02, PRICES)
    device = Device(0.05, {kind: {n: 2.5 * p for n, p in row.items()} for kind, row in PRICES.items()})
    found, fresh = Networks(networks(4)), networks(60, seed=1)
    measured, truth = device.latency_ms(found.works), device.latency_ms(fresh)

    def error(fitted: np.ndarray) -> float:
        model = plain(found, fitted)
        return float(np.median([abs(model.latency_ms(w) / ms - 1) for w, ms in zip(fresh, truth, strict=True)]))

    assert error(fit_prices(found, measured, earlier)) < 0.02
    assert error(fit_prices(found, measured)) > 0.05


def test_what_the_earlier_device_never_priced_starts_from_the_roofline() -> None:
    earlier = LatencyModel(0.02, {kind: row for kind, row in PRICES.items() if kind != "reorder.plain"})
    found = Networks(networks(100))
    fitted = found.by_name(fit_prices(found, Device().latency_ms(found.works), earlier))
    assert fitted["reorder.plain"]["kilobytes"] == pytest.approx(1e-4, rel=0.2)
    assert fitted["pointwise"] == pytest.approx(dict(PRICES["pointwise"]), rel=0.2, abs=1e-5)


def test_work_that_networks_hold_little_of_does_not_pay_for_what_others_miss() -> None:
    """Where networks with a gate are 10 % slower than their kernels say, the gate's few bytes are not to cost that."""
    works = [
        Work(
            (*work.kernels, KernelWork("gate", "gate", 0, {"gate_kilobytes": 1.0}, (1.0,))) if i % 2 else work.kernels,
            (),
        )
        for i, work in enumerate(networks(120))
    ]
    earlier = LatencyModel(0.02, {**PRICES, "gate": {"gate_kilobytes": 1e-4}})
    device = Device(prices={**PRICES, "gate": {"gate_kilobytes": 1e-4}})
    slower = np.array([1.1 if i % 2 else 1.0 for i in range(120)])
    found = Networks(works)
    fitted = found.by_name(fit_prices(found, device.latency_ms(works) * slower, earlier))
    assert fitted["gate"]["gate_kilobytes"] < 3e-4
    assert fitted["pointwise"]["mega_macs"] == pytest.approx(PRICES["pointwise"]["mega_macs"], rel=0.15)
