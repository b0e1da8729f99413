"""Every candidate of a study as a point: what the picture of the front shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from optuna.trial import FrozenTrial, TrialState

from nas_edge.records import Measurement, Prediction
from nas_edge.report.front import FrontRow
from nas_edge.samplers.history import PARTIAL
from nas_edge.store.study import REPEAT_OF, StoredStudy

FRONT, FINISHED, OVER, STOPPED = "front", "finished", "over the limit", "not trained to the end"
MOST_POINTS = 2000  # beside the front's: a browser draws them within a second


@dataclass(frozen=True)
class Candidate:
    """One candidate as far as it is known.

    `accuracy` is the fraction of the validation split, None where it was not trained; `latency_ms` with its interval is
    what is known best, from `source`: "measured" or "predicted".
    """

    number: int
    kind: str
    accuracy: float | None
    latency_ms: float
    low_ms: float | None
    high_ms: float | None
    source: str
    size_bytes: int | None
    techniques: str
    why: str | None = None


@dataclass(frozen=True)
class Points:
    """Those of a study: `shown` of all that are known, the front's always, and of others each so-and-so-many-th."""

    candidates: tuple[Candidate, ...]
    known: int


def points(stored: StoredStudy, front: Sequence[FrontRow]) -> Points:
    """The front as it is reported, and behind it what was evaluated, was over the limit, or was stopped."""
    key = stored.target_key
    predicted, measured = stored.tables.predictions(key), stored.tables.measurements(key)
    finals = stored.tables.finals(stored.config.name)
    trials = {t.number: t for t in stored.trials()}
    members = [_member(row, trials[row.number], finals.get(row.number), predicted) for row in front]
    numbers = {row.number for row in front}
    others = [
        c for t in trials.values() if t.number not in numbers and (c := _candidate(stored, t, predicted, measured))
    ]
    return Points((*members, *spread(others, MOST_POINTS)), len(members) + len(others))


T = TypeVar("T")


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


def _member(
    row: FrontRow,
    trial: FrozenTrial,
    final: Mapping[str, object] | None,
    predicted: Mapping[str, Prediction],
) -> Candidate:
    said = predicted.get(str((final or trial.user_attrs)["onnx_sha256"]))
    if row.measured_ms is not None:
        low_ms, high_ms, source = row.measured_low_ms, row.measured_high_ms, "measured"
    else:
        low_ms, high_ms = (said.low_ms, said.high_ms) if said else (None, None)
        source = trial.user_attrs["latency_source"]
    return Candidate(
        number=row.number,
        kind=FRONT,
        accuracy=row.accuracy,
        latency_ms=row.latency_ms,
        low_ms=low_ms,
        high_ms=high_ms,
        source=source,
        size_bytes=row.size_bytes,
        techniques=row.techniques,
    )


def _candidate(
    stored: StoredStudy,
    trial: FrozenTrial,
    predicted: Mapping[str, Prediction],
    measured: Mapping[str, Measurement],
) -> Candidate | None:
    """A trial that is not on the front; None where nothing is known of its latency, and for a repeat."""
    attrs = trial.user_attrs
    if REPEAT_OF in attrs:
        return None
    if trial.state is TrialState.PRUNED and PARTIAL in attrs:
        accuracy, latency_ms, *_ = attrs[PARTIAL]
        return Candidate(
            trial.number,
            STOPPED,
            accuracy,
            latency_ms,
            None,
            None,
            "predicted",
            None,
            attrs["techniques"],
            attrs["why"],
        )
    if trial.state is not TrialState.COMPLETE:
        return None
    measurement = measured.get(attrs["onnx_sha256"])
    prediction = predicted.get(attrs["onnx_sha256"])
    usable = prediction if prediction and prediction.usable and attrs["latency_source"] == "predicted" else None
    limit = stored.config.max_latency_ms
    latency_ms = measurement.p50_ms if measurement else usable.ms if usable else trial.values[1]
    known = measurement or usable
    return Candidate(
        number=trial.number,
        kind=OVER if limit is not None and latency_ms > limit else FINISHED,
        accuracy=trial.values[0],
        latency_ms=latency_ms,
        low_ms=known.low_ms if known else None,
        high_ms=known.high_ms if known else None,
        source="measured" if measurement else attrs["latency_source"],
        size_bytes=attrs["size_bytes"],
        techniques=attrs["techniques"],
    )
