"""The latency model: sums, floors, novelty, and its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nas_edge.latency.fit import fit
from nas_edge.latency.graph import Work
from nas_edge.latency.model import LEAST, LatencyModel, NetworkCorrection, ShapeCorrection

from .synthetic import PRICES, Device, kernel, narrow_is_slow, networks

FRESH = networks(30, seed=100)


@pytest.fixture(scope="module")
def works() -> list[Work]:
    return networks(80)


@pytest.fixture(scope="module")
def model(works: list[Work]) -> LatencyModel:
    return fit(works, Device(slowness=narrow_is_slow).latency_ms(works))[0]


def test_a_plain_model_is_the_sum_of_its_prices() -> None:
    times = LatencyModel(0.01, PRICES).times(Work((kernel("pointwise", 32, 64, 8), kernel("depthwise", 32, 32, 8)), ()))
    pointwise = 0.004 + 0.02 * 64 * 32 * 64 / 1e6 + 2e-5 * 96 * 64 / 256 + 1e-4 * 64 * 32 / 256
    depthwise = 0.003 + 0.15 * 64 * 32 * 9 / 1e6 + 5e-5 * 64 * 64 / 256
    assert (times.base_ms, *times.kernels_ms) == pytest.approx((0.01, pointwise, depthwise))
    assert (times.shape_novelty, times.network_novelty) == (0, 0)


def test_the_parts_add_up_and_none_is_negative(model: LatencyModel) -> None:
    for work in FRESH:
        times = model.times(work)
        assert len(times.kernels_ms) == len(work.kernels)
        assert times.base_ms + sum(times.kernels_ms) == pytest.approx(model.latency_ms(work)) == times.total_ms
        assert times.base_ms >= 0 and min(times.kernels_ms) > 0


def test_corrections_cannot_make_a_kernel_or_a_network_free() -> None:
    """Shifts and shapes that are wildly wrong: a kernel keeps a part of its price, and so does the whole."""
    work = FRESH[0]
    plain = LatencyModel(0.02, PRICES)
    shifts = {kind: {name: -3 * price for name, price in row.items()} for kind, row in PRICES.items()}
    bad = replace(plain, base_shift_ms=-1.0, shifts=shifts)
    times = bad.times(work)
    assert times.base_ms > 0 and min(times.kernels_ms) > 0
    assert times.total_ms == pytest.approx(LEAST * plain.latency_ms(work))
    network = NetworkCorrection((), np.zeros((1, 1)), np.array([-1e3]))
    assert replace(plain, network=network).latency_ms(work) == pytest.approx(LEAST * plain.latency_ms(work))


def test_a_correction_by_shape_is_a_share_of_the_price() -> None:
    slow, other = kernel("pointwise", 32, 64, 8), kernel("pointwise", 2**14, 2**14, 2**10)
    centre = np.log2([slow.dims])
    correction = ShapeCorrection(0.1, centre, np.array([0.5]))
    model = LatencyModel(0.0, PRICES, shapes={"pointwise": correction})
    plain = LatencyModel(0.0, PRICES)
    assert model.latency_ms(Work((slow,), ())) == pytest.approx(1.6 * plain.latency_ms(Work((slow,), ())))
    far = model.times(Work((other,), ()))
    assert far.total_ms == pytest.approx(1.1 * plain.latency_ms(Work((other,), ())), rel=1e-2)
    assert far.shape_novelty > 0.95 > 0.05 > model.times(Work((slow,), ())).shape_novelty


def test_a_network_of_the_calibration_is_not_new_and_an_alien_is(model: LatencyModel, works: list[Work]) -> None:
    for work in works[:10]:
        assert model.times(work).network_novelty < 1e-3
        assert model.times(work).shape_novelty < 0.6
    whole = [model.times(Work((kernel("pointwise", 64, 64, side),), ())) for side in (8, 64, 512, 4096)]
    assert [t.shape_novelty for t in whole] == sorted(t.shape_novelty for t in whole)
    assert [t.network_novelty for t in whole[1:]] == sorted(t.network_novelty for t in whole[1:])
    assert whole[-1].shape_novelty > 0.9 and whole[-1].network_novelty > 0.9


def test_unknown_kinds_are_named_and_left_out(model: LatencyModel) -> None:
    known = FRESH[0].kernels
    work = Work((*known, kernel("grouped", 8, 8, 8), kernel("conv3d", 8, 8, 8)), ())
    assert model.unknown(work) == ("conv3d", "grouped")
    assert model.unknown(FRESH[0]) == ()
    plain = LatencyModel(0.02, PRICES)
    assert plain.latency_ms(work) == pytest.approx(plain.latency_ms(FRESH[0]), rel=1e-6)


def test_work_without_a_price_is_novel(model: LatencyModel, works: list[Work]) -> None:
    first, *others = works[0].kernels
    strange = first._replace(features={**first.features, "mega_macs_of_3_blocks": 1.0})
    assert model.times(Work((strange, *others), ())).shape_novelty > model.times(works[0]).shape_novelty


def test_an_empty_network_costs_a_run() -> None:
    assert LatencyModel(0.02, PRICES).times(Work((), ())).total_ms == pytest.approx(0.02)


def test_the_file_predicts_as_the_model_does(model: LatencyModel) -> None:
    read = LatencyModel.from_json(json.loads(json.dumps(model.to_json(), allow_nan=False)))
    for work in FRESH:
        assert read.latency_ms(work) == pytest.approx(model.latency_ms(work), rel=1e-4)
        assert read.times(work).kernels_ms == pytest.approx(model.times(work).kernels_ms, rel=1e-3)
    assert read.to_json() == LatencyModel.from_json(read.to_json()).to_json()


def _damaged(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def damage(stored: dict[str, Any]) -> None:
        place = stored
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        _damaged("base_ms", value=-1),
        _damaged("base_ms", value="1"),
        _damaged("base_shift_ms", value=float("inf")),
        _damaged("prices", value=None),
        _damaged("prices", "pointwise", "calls", value=-0.1),
        _damaged("prices", "pointwise", "calls", value=True),
        _damaged("shifts", "pointwise", "calls", value="x"),
        _damaged("shapes", "pointwise", "constant", value=float("nan")),
        _damaged("shapes", "pointwise", "centres", value=[1.0, 2.0]),
        _damaged("shapes", "pointwise", "weights", value=[1.0]),
        _damaged("shapes", "pointwise", "weights", value=None),
        _damaged("network", "points", value=[[1.0], [2.0, 3.0]]),
        _damaged("network", "weights", value=[float("nan")]),
        _damaged("network", "kinds", value=["pointwise"]),
    ],
)
def test_damaged_files_are_refused(model: LatencyModel, damage: Callable[[dict[str, Any]], None]) -> None:
    stored = json.loads(json.dumps(model.to_json()))
    damage(stored)
    with pytest.raises((KeyError, TypeError, ValueError)):
        LatencyModel.from_json(stored)
