"""The model of single nodes on a device with a known law, and what it is worth as a prior."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest

from nas_edge.latency.fit import fit
from nas_edge.latency.graph import Work
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.nodes import MIN_OBSERVATIONS, Observation, node_model

from .synthetic import PRICES, Device, kernel, narrow_is_slow, networks

OVERHEAD_MS = 0.002  # of the profiler, on top of each node
CURVED = Device(slowness=narrow_is_slow)


def observed(device: Device, works: list[Work], noise: float = 0.05, seed: int = 9) -> list[list[Observation]]:
    """Node times as a profiler reports them: with its overhead, noise, bursts, and whole microseconds."""
    draw = np.random.default_rng(seed)
    found = []
    for work in works:
        row: list[Observation] = []
        for k in work.kernels:
            burst = 2.0 if draw.random() < 0.05 else 1.0
            ms = (device.kernel_ms(k) + OVERHEAD_MS) * draw.normal(1, noise) * burst
            row.append((k, max(round(ms, 3), 0.001)))
        found.append(row)
    return found


def flat(rows: list[list[Observation]]) -> list[Observation]:
    return [observation for row in rows for observation in row]


def errors_of(model: LatencyModel, works: list[Work], truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.array([model.latency_ms(work) for work in works]) / truth - 1


def test_prices_are_found_and_the_overhead_is_none() -> None:
    model = node_model(flat(observed(Device(), networks(150))))
    assert model.base_ms == 0 and all("calls" not in prices for prices in model.prices.values())
    assert model.prices["pointwise"]["mega_macs"] == pytest.approx(PRICES["pointwise"]["mega_macs"], rel=0.1)
    assert model.prices["depthwise"]["mega_macs"] == pytest.approx(PRICES["depthwise"]["mega_macs"], rel=0.1)
    assert model.prices["reorder.plain"]["kilobytes"] == pytest.approx(PRICES["reorder.plain"]["kilobytes"], rel=0.1)


def test_what_depends_on_sizes_is_found() -> None:
    """Narrow kernels are up to three times as slow: the ratio of two with the same work tells."""
    model = node_model(flat(observed(CURVED, networks(200))))
    narrow, wide = kernel("pointwise", 16, 192, 32), kernel("pointwise", 128, 24, 32)

    def worth(k: object) -> float:
        assert isinstance(k, type(narrow))
        share = model.shapes["pointwise"].at(np.log2([k.dims]))[0][0]
        return model.priced_ms(k) * float(1 + share)

    assert worth(narrow) / worth(wide) == pytest.approx(CURVED.kernel_ms(narrow) / CURVED.kernel_ms(wide), rel=0.2)
    assert model.priced_ms(narrow) / model.priced_ms(wide) < 0.8 * worth(narrow) / worth(wide)


def test_kinds_seen_too_rarely_are_left_to_the_networks() -> None:
    rare = [(kernel("rare", 8, 8, 8), 0.01)] * (MIN_OBSERVATIONS - 1)
    model = node_model([*flat(observed(Device(), networks(30))), *rare])
    assert set(model.prices) == set(model.shapes) == set(PRICES)
    assert node_model([]).prices == {}


def test_node_times_make_up_for_networks() -> None:
    """Thirty networks, whose nodes were timed with 5 % of noise; the profiler runs at another speed than they do."""
    works, fresh = networks(30, seed=4), networks(80, seed=100)
    truth, measured = CURVED.latency_ms(fresh), CURVED.latency_ms(works)
    nodes = [[(k, 1.7 * ms) for k, ms in row] for row in observed(CURVED, works)]
    plain, plain_errors = fit(works, measured)
    helped, errors = fit(works, measured, None, nodes)
    assert np.median(np.abs(errors_of(helped, fresh, truth))) < 0.75 * np.median(np.abs(errors_of(plain, fresh, truth)))
    assert np.median(np.abs(errors)) < np.median(np.abs(plain_errors))
    again = LatencyModel.from_json(json.loads(json.dumps(helped.to_json())))
    assert again.latency_ms(fresh[0]) == pytest.approx(helped.latency_ms(fresh[0]), rel=1e-3)


def test_wrong_node_times_do_little_harm() -> None:
    """A profiler whose times say nothing: many networks overrule it."""
    works, fresh, draw = networks(150), networks(80, seed=100), np.random.default_rng(0)
    truth, measured = CURVED.latency_ms(fresh), CURVED.latency_ms(works)
    nodes = [[(k, float(draw.lognormal(-4, 1))) for k in work.kernels] for work in works]
    plain, misled = fit(works, measured)[0], fit(works, measured, None, nodes)[0]
    bound = 1.5 * np.median(np.abs(errors_of(plain, fresh, truth))) + 0.01
    assert np.median(np.abs(errors_of(misled, fresh, truth))) < bound


def test_an_earlier_profile_wins_over_node_times() -> None:
    works = networks(40)
    measured = CURVED.latency_ms(works)
    earlier, _ = fit(works, measured)
    nodes = observed(CURVED, works)
    assert fit(works, measured, earlier, nodes)[0].to_json() == fit(works, measured, earlier)[0].to_json()
