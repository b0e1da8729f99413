"""A study beside random search with the same budget."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_edge.engine.baseline import stored_baselines
from nas_edge.report.front import front_rows
from nas_edge.store.study import StoredStudy

SLOWER, WORSE = 1.05, 0.01  # how far beyond the worst member of any front the hypervolume is counted


@dataclass(frozen=True)
class Baseline:
    """What a study and random searches found: shares of the hypervolume of all their fronts together.

    By accuracy on the test split, and latency, measured where that was done. `half_width` is that of the 95 % interval
    of the mean over the seeds of random search (Student's t), None for one seed. `seconds` are those of all trials.
    """

    share: float
    candidates: int
    seconds: float
    random_shares: tuple[float, ...]
    random_candidates: int
    random_seconds: float

    @property
    def random_share(self) -> float:
        return statistics.mean(self.random_shares)

    @property
    def half_width(self) -> float | None:
        return half_width(self.random_shares)


def half_width(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the mean over seeds (Student's t); None of fewer than two."""
    count = len(values)
    if count < 2:
        return None
    from scipy.stats import t as student  # slow to import

    return float(student.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count)


def baseline_of(stored: StoredStudy, baselines: Sequence[StoredStudy] | None = None) -> Baseline | None:
    """None where random search was not run, or has found nothing yet; `baselines` saves reading them again."""
    if baselines is None:
        baselines = [other.snapshot() for other in stored_baselines(stored)]
    others = [other for other in baselines if other.front()]
    if not others or not stored.front():
        return None
    own, *random = hypervolume_shares([_points(study) for study in (stored, *others)])
    return Baseline(
        own,
        stored.finished(),
        _seconds([stored]),
        tuple(random),
        round(statistics.mean(other.finished() for other in others)),
        _seconds(others),
    )


def reference_point(points: np.ndarray) -> np.ndarray:
    """`[2]`: how slow and wrong a network may be to count at all, where fronts `[members, 2]` are compared."""
    worst: np.ndarray = points.max(axis=0) * np.array([SLOWER, 1.0]) + np.array([0.0, WORSE])
    return worst


def hypervolume_shares(fronts: Sequence[np.ndarray]) -> list[float]:
    """Of each front `[members, 2]`, of latency and error, the share of the hypervolume of all of them together."""
    from nas_edge.samplers.improvement import hypervolume  # with scipy, which most reports do without

    everything = np.concatenate(fronts)
    reference = reference_point(everything)
    whole = hypervolume(everything, reference)
    return [hypervolume(front, reference) / whole for front in fronts]


def describe(found: Baseline) -> str:
    spread = "" if found.half_width is None else f" ± {100 * found.half_width:.1f}"
    seeds = f"{len(found.random_shares)} seeds of " if len(found.random_shares) > 1 else ""
    return (
        f"{found.share:.1%} of the hypervolume of all, with {found.candidates} candidates in {found.seconds:.0f} s; "
        f"random search {found.random_share:.1%}{spread}, with {seeds}{found.random_candidates} in "
        f"{found.random_seconds:.0f} s"
    )


def _points(stored: StoredStudy) -> np.ndarray:
    """`[members, 2]`: latency in ms and error of each."""
    return np.array(
        [(r.latency_ms, 1 - (r.accuracy if r.test_accuracy is None else r.test_accuracy)) for r in front_rows(stored)]
    )


def _seconds(studies: Sequence[StoredStudy]) -> float:
    """Of the trials of each study, on average."""
    durations = [t.duration.total_seconds() for study in studies for t in study.trials() if t.duration is not None]
    return sum(durations) / len(studies)
