"""From the samples of a campaign to a latency, and the doubts about it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MIN_VISITS = 3
MIN_RUNS = 10
WIDE = 0.05  # half the interval, as a share of the median
GAP = 0.15  # between two neighbouring visits, sorted
DRIFT = 0.07
BUSY = 1.25  # wall time over processor time
JITTER = 1.25  # upper over lower quartile of the runs of a visit


@dataclass(frozen=True)
class Visit:
    """The runs of one short visit: `times_ms` are what counts, `wall_ms` what a clock on the wall saw.

    `slowdown` is how many times longer than usual the reference networks took around this visit. `process` tells the
    agents apart.
    """

    times_ms: tuple[float, ...]
    wall_ms: tuple[float, ...]
    slowdown: float = 1.0
    process: int = 0


@dataclass(frozen=True)
class Summary:
    """A latency in ms: median, 90 % quantile, the 95 % interval of the median, and why it may be unstable.

    `samples` are single runs.
    """

    p50_ms: float
    p90_ms: float
    low_ms: float
    high_ms: float
    samples: int
    unstable_because: str | None


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile of unsorted values, linearly interpolated."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the median by order statistics (Conover 1999, section 3.2); the range for fewer than 6 values.

    The number of values below the median is binomial(n, 1/2), whatever their distribution is.
    """
    ordered = sorted(values)
    count = len(ordered)
    below, cumulated = 0, 0.0
    while below < count // 2:
        cumulated += math.comb(count, below) / 2**count
        if cumulated > 0.025:
            break
        below += 1
    first = max(below - 1, 0)
    return ordered[first], ordered[count - 1 - first]


def steadied(visits: Sequence[Visit]) -> list[float]:
    """The median of each visit in ms, as if the device had run at its usual speed then."""
    return [statistics.median(v.times_ms) / v.slowdown for v in visits]


def summarise(visits: Sequence[Visit]) -> Summary:
    """The latency that visits in their order in time tell. Raises ValueError without visits.

    The interval is over visits, not over runs: runs of one visit are not independent. Nor are visits of one process,
    whose memory was laid out once: the interval reaches over the medians of the processes too.
    """
    if not visits:
        raise ValueError("no visit")
    medians = steadied(visits)
    p50 = statistics.median(medians)
    ends = [*median_interval(medians), *median_interval(_process_medians(visits, medians))]
    # The tail is what a clock saw: it is there that the rest of the system shows.
    p90 = max(p50, quantile([t for v in visits for t in v.wall_ms], 0.9))
    samples = sum(len(v.times_ms) for v in visits)
    return Summary(p50, p90, min(ends), max(ends), samples, _doubt(visits, medians, samples))


def busy_share(visits: Sequence[Visit]) -> float:
    """The share of the wall time in which something else had the processor, in a typical visit."""
    wall = statistics.median(statistics.median(v.wall_ms) / statistics.median(v.times_ms) for v in visits)
    return 1 - 1 / max(wall, 1.0)


def jitter(visits: Sequence[Visit]) -> float:
    """The upper over the lower quartile of the runs of a typical visit."""
    return statistics.median(quantile(v.times_ms, 0.75) / quantile(v.times_ms, 0.25) for v in visits)


def _process_medians(visits: Sequence[Visit], medians: Sequence[float]) -> list[float]:
    """One median a process."""
    groups: dict[int, list[float]] = {}
    for visit, median in zip(visits, medians, strict=True):
        groups.setdefault(visit.process, []).append(median)
    return [statistics.median(group) for _, group in sorted(groups.items())]


def _doubt(visits: Sequence[Visit], medians: Sequence[float], samples: int) -> str | None:
    """The first reason not to trust the median, and what to try."""
    if len(visits) < MIN_VISITS or samples < MIN_RUNS:
        return f"only {samples} runs in {len(visits)} visits; measure for longer"
    if (busy := busy_share(visits)) > 1 - 1 / BUSY:
        return f"other work took {busy:.0%} of the processor; stop it and measure again"
    if (apart := jitter(visits)) > JITTER:
        return (
            f"half of the runs within a visit differ by {apart - 1:.0%} or more: other work interrupts them; stop it "
            "and measure again"
        )
    if split := two_modes(medians):
        return f"two speeds, about {split[0]:.3g} and {split[1]:.3g} ms; fix the clock (governor) or measure for longer"
    if abs(change := drift(medians)) > DRIFT:
        return f"the time drifts by {change:+.0%} from start to end; let the device cool down or measure for longer"
    if _is_wide(interval := median_interval(medians), medians):
        low, high = interval
        return (
            f"visits disagree: the median is within {low:.3g} to {high:.3g} ms; stop other work or measure for longer"
        )
    if _is_wide(median_interval(processes := _process_medians(visits, medians)), medians):
        return (
            f"fresh processes disagree: {', '.join(f'{p:.3g}' for p in processes)} ms; measure for longer, in more "
            "processes (as in local?processes=8)"
        )
    return None


def _is_wide(interval: tuple[float, float], medians: Sequence[float]) -> bool:
    return interval[1] - interval[0] > 2 * WIDE * statistics.median(medians)


def two_modes(medians: Sequence[float]) -> tuple[float, float] | None:
    """The centres of two groups of visits with an empty gap between them, each with a fifth of the visits or more."""
    ordered = sorted(medians)
    least = max(2, round(len(ordered) / 5))
    for cut in range(least, len(ordered) - least + 1):
        if ordered[cut] > ordered[cut - 1] * (1 + GAP):
            return statistics.median(ordered[:cut]), statistics.median(ordered[cut:])
    return None


def drift(medians: Sequence[float]) -> float:
    """The change from the first third of the visits to the last, as a share; 0 for fewer than 6 visits."""
    third = len(medians) // 3
    if third < 2:
        return 0.0
    return statistics.median(medians[-third:]) / statistics.median(medians[:third]) - 1
