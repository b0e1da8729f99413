"""The statistics of a measurement, on recorded and made-up samples."""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path

import pytest

from nas_edge.latency.samples import Visit, busy_share, drift, median_interval, quantile, steadied, summarise, two_modes

# Medians in ms of one 1.2 ms network, 40 ms a visit, on a shared two-core virtual machine: it switches its speed.
BIMODAL = (1.21, 1.23, 1.22, 1.78, 1.80, 1.24, 1.22, 1.79, 1.81, 1.23, 1.77, 1.22, 1.79, 1.24, 1.21, 1.80)
STEADY = (1.21, 1.23, 1.22, 1.20, 1.22, 1.24, 1.22, 1.19, 1.21, 1.23, 1.22, 1.22)

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> list[Visit]:
    """A campaign of one network as it was measured on a real machine; the file says where and how."""
    rows = json.loads((RECORDED / f"{name}.json").read_text())["visits"]
    return [
        Visit(tuple(r["times_ms"]), tuple(r["wall_ms"] or r["times_ms"]), r["slowdown"], r["process"]) for r in rows
    ]


def visits(medians: tuple[float, ...], processes: int = 1) -> list[Visit]:
    """Visits of 9 runs that spread by 1 % around each median."""
    spread = [0.99, 0.992, 0.995, 0.998, 1.0, 1.002, 1.005, 1.008, 1.01]
    times = [tuple(m * s for s in spread) for m in medians]
    return [Visit(t, t, process=i % processes) for i, t in enumerate(times)]


def test_steady_samples_are_trusted() -> None:
    summary = summarise(visits(STEADY))
    assert summary.unstable_because is None
    assert summary.p50_ms == pytest.approx(1.22)
    assert 1.20 <= summary.low_ms <= 1.22 <= summary.high_ms <= 1.24
    assert summary.p90_ms == pytest.approx(quantile([t for v in visits(STEADY) for t in v.wall_ms], 0.9))
    assert summary.samples == 9 * len(STEADY)


def test_bimodal_samples_are_doubted() -> None:
    summary = summarise(visits(BIMODAL))
    assert summary.unstable_because is not None and "two speeds" in summary.unstable_because
    assert "1.22" in summary.unstable_because and "1.79" in summary.unstable_because
    assert "measure for longer" in summary.unstable_because


def test_drift_is_doubted_and_the_reference_cancels_it() -> None:
    slowing = [1.0 + 0.02 * i for i in range(12)]
    summary = summarise(visits(tuple(slowing)))
    assert summary.unstable_because is not None and "drifts by +" in summary.unstable_because
    together = [Visit((s, s, s), (s, s, s), slowdown=s) for s in slowing]  # the references slow down alike
    assert summarise(together).unstable_because is None
    assert steadied(together) == pytest.approx([1.0] * 12)


def test_a_busy_machine_and_too_few_runs_are_doubted() -> None:
    busy = [Visit((1.0,) * 5, (1.5,) * 5) for _ in range(8)]
    reason = summarise(busy).unstable_because
    assert reason is not None and "33%" in reason and "stop it" in reason
    reason = summarise(visits(STEADY[:2])).unstable_because
    assert reason is not None and "only 18 runs in 2 visits" in reason


def test_wide_disagreement_is_doubted() -> None:
    wide = (1.15, 1.3, 1.0, 1.4, 1.05, 1.35, 1.1, 1.25, 1.2)
    reason = summarise(visits(wide)).unstable_because
    assert reason is not None and "visits disagree" in reason


def test_processes_that_disagree_are_doubted_and_widen_the_interval() -> None:
    apart = tuple((1.0, 1.1, 1.12)[i % 3] * (1 + 0.001 * (i % 5)) for i in range(60))
    summary = summarise(visits(apart, processes=3))
    assert summary.low_ms < 1.01 and summary.high_ms > 1.12
    assert median_interval(apart)[0] > 1.09  # what it would be if the visits were independent
    reason = summary.unstable_because
    assert reason is not None and "fresh processes disagree: 1, 1.1, 1.12 ms" in reason and "processes=8" in reason
    close = tuple(1 + 0.01 * (i % 3) for i in range(60))
    assert summarise(visits(close, processes=3)).unstable_because is None


def test_a_recorded_quiet_campaign_is_trusted() -> None:
    seen = recorded("quiet")
    summary = summarise(seen)
    assert summary.unstable_because is None
    assert summary.low_ms < summary.p50_ms < summary.high_ms < 1.05 * summary.low_ms
    assert summary.samples == sum(len(v.times_ms) for v in seen) and {v.process for v in seen} == {0, 1, 2}
    halves = [summarise(seen[first::2]).p50_ms for first in (0, 1)]
    assert halves[0] == pytest.approx(halves[1], rel=0.05)


def test_a_recorded_change_of_speed_is_cancelled_by_the_references() -> None:
    seen = recorded("changing_speed")
    raw = [statistics.median(v.times_ms) for v in seen]
    assert max(raw) > 1.1 * min(raw)
    assert statistics.pstdev(steadied(seen)) < 0.4 * statistics.pstdev(raw)
    summary = summarise(seen)
    assert summary.unstable_because is None and summary.high_ms < 1.03 * summary.low_ms


def test_a_recorded_busy_core_is_named() -> None:
    seen = recorded("busy_core")
    assert 0.5 < busy_share(seen) < 0.6  # an endless loop had the same core
    summary = summarise(seen)
    assert summary.unstable_because == "other work took 54% of the processor; stop it and measure again"
    assert summary.p90_ms > 3 * summary.p50_ms  # a clock saw it, the processor time did not


def test_a_recorded_busy_neighbour_is_named_though_only_a_clock_counts() -> None:
    seen = recorded("busy_neighbour")
    assert busy_share(seen) == 0
    reason = summarise(seen).unstable_because
    assert reason is not None and "other work interrupts them; stop it" in reason


def test_no_visits_is_an_error() -> None:
    with pytest.raises(ValueError, match="no visit"):
        summarise([])


@pytest.mark.parametrize("count", [6, 7, 15, 40])
def test_the_median_interval_is_the_binomial_one(count: int) -> None:
    low, high = median_interval([float(i) for i in range(count)])
    assert low + high == pytest.approx(count - 1)  # symmetric order statistics
    rank = int(low)
    outside = 2 * sum(math.comb(count, i) for i in range(rank + 1)) / 2**count
    assert outside <= 0.05
    assert outside + 2 * math.comb(count, rank + 1) / 2**count > 0.05  # one rank further in would not cover


def test_the_median_interval_covers() -> None:
    random.seed(1)
    hits = 0
    for _ in range(400):
        low, high = median_interval([random.lognormvariate(0, 0.5) for _ in range(15)])
        hits += low <= 1.0 <= high
    assert hits / 400 >= 0.93


def test_few_values_give_their_range() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_quantile_matches_the_library() -> None:
    values = [5.0, 1.0, 9.0, 4.0, 7.0]
    assert quantile(values, 0.5) == statistics.median(values)
    assert quantile(values, 0.9) == pytest.approx(8.2)


def test_two_modes_needs_both_groups() -> None:
    assert two_modes([1.0] * 20 + [2.0]) is None  # one disturbed visit is no second speed
    assert two_modes([1.0] * 10 + [2.0] * 10) == (1.0, 2.0)
    assert drift([1.0, 2.0]) == 0.0
