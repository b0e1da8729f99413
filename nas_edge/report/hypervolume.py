"""How a search advanced: the share of the hypervolume that it had found after so many candidates and seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from optuna.trial import FrozenTrial

from nas_edge.report.baseline import reference_point
from nas_edge.store.study import StoredStudy

EARLY = 10  # candidates, whose front counts: or a search would seem to find nothing at first


@dataclass(frozen=True)
class Moment:
    """When a candidate entered the front: after so many were evaluated, and so many seconds of all trials."""

    candidates: int
    seconds: float
    share: float
    front: int


@dataclass(frozen=True)
class Advance:
    """One search. `moments` are those at which its share rose, and its end; `random` says that it is the baseline."""

    name: str
    random: bool
    moments: tuple[Moment, ...]


@dataclass(frozen=True)
class Advances:
    """Of a study and its baselines: shares of the hypervolume of all their fronts together.

    By accuracy on validation and by latency as the searches saw them, whatever was measured or trained later.
    `reference` is the latency in ms and the error beyond which nothing counts: the worst on these fronts, and on those
    that the searches had after their first ten candidates.
    """

    reference: tuple[float, float]
    searches: tuple[Advance, ...]


def advances(stored: StoredStudy, baselines: Sequence[StoredStudy] = ()) -> Advances | None:
    """None before anything was found."""
    named = [(stored.config.sampler, False, stored), *((other.config.name, True, other) for other in baselines)]
    found = [(name, random, study, _losses(study.front())) for name, random, study in named if study.front()]
    if not found or found[0][1]:
        return None
    from nas_edge.samplers.improvement import hypervolume  # with scipy

    everything = np.concatenate([losses for *_, losses in found])
    early = [_losses(study.front(study.evaluated()[:EARLY])) for *_, study, _ in found]
    reference = reference_point(np.concatenate([everything, *early]))
    whole = hypervolume(everything, reference)
    searches = [Advance(name, random, _moments(study, reference, whole)) for name, random, study, _ in found]
    return Advances((float(reference[0]), float(reference[1])), tuple(searches))


def _losses(trials: Sequence[FrozenTrial]) -> np.ndarray:
    """`[trials, 2]`: latency in ms, and error."""
    return np.array([(t.values[1], 1 - t.values[0]) for t in trials]).reshape(len(trials), 2)


def _moments(stored: StoredStudy, reference: np.ndarray, whole: float) -> tuple[Moment, ...]:
    """The front is kept as candidates come: only what enters it changes the share."""
    from nas_edge.samplers.improvement import hypervolume

    trials = stored.evaluated()
    spent = accumulate(0.0 if t.duration is None else t.duration.total_seconds() for t in trials)
    front, found, seconds = np.empty((0, 2)), [Moment(0, 0.0, 0.0, 0)], 0.0
    for count, (trial, seconds) in enumerate(zip(trials, spent, strict=True), start=1):
        point = _losses([trial])
        if not stored.is_able(trial) or (front <= point).all(axis=1).any():
            continue
        front = np.concatenate([front[~(point <= front).all(axis=1)], point])
        found.append(Moment(count, seconds, hypervolume(front, reference) / whole, len(front)))
    last = found[-1]
    return (*found, Moment(len(trials), seconds, last.share, last.front))
