"""The front of a study as rows: what `show` prints, `--json` gives and `export` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial

from nas_edge.records import Measurement, Prediction
from nas_edge.store.study import StoredStudy
from nas_edge.store.tables import trained_longer


@dataclass(frozen=True)
class FrontRow:
    """One member of the front.

    `accuracy` is on validation, `test_accuracy` on the untouched test split; `latency_ms` is measured where that was
    done, and `unstable_because` says why that may be wrong. `repredicted_ms` is what the profile in use says where the
    search used an earlier one. `within_budget` is False where it is over `--max-latency-ms` after all. `beaten_by` is
    another member that is better in every objective by now, or in some and as good in the others: training them for
    longer and measuring them moves them.
    """

    number: int
    accuracy: float
    test_accuracy: float | None
    latency_ms: float
    predicted_ms: float | None
    repredicted_ms: float | None
    measured_ms: float | None
    measured_low_ms: float | None
    measured_high_ms: float | None
    unstable_because: str | None
    size_bytes: int
    techniques: str
    trained_longer: bool
    within_budget: bool
    model: str | None
    beaten_by: int | None = None


@dataclass(frozen=True)
class Present:
    """What is known by now, by file: what the profile in use says, once an audit noted which that is, and what was
    measured on the study's target."""

    predictions: Mapping[str, Prediction]
    measurements: Mapping[str, Measurement]

    @classmethod
    def of(cls, stored: StoredStudy) -> Present:
        tables, target = stored.tables, stored.target_key
        audits = tables.audits(stored.config.name)
        return cls(tables.predictions(target, audits[-1].profile) if audits else {}, tables.measurements(target))


def front_rows(stored: StoredStudy, present: Present | None = None) -> list[FrontRow]:
    """The members of the front, the most accurate first: as they are by now, not as the search left them."""
    finals, present = stored.tables.finals(stored.config.name), present or Present.of(stored)
    rows = [_row(stored, trial, finals.get(trial.number), present) for trial in stored.front()]
    rows.sort(key=lambda row: (-row.accuracy, row.latency_ms))
    losses = [stored.losses([getattr(row, name) for name in stored.config.objectives]) for row in rows]
    return [replace(row, beaten_by=_better(rows, losses, mine)) for row, mine in zip(rows, losses, strict=True)]


def _better(rows: Sequence[FrontRow], losses: Sequence[tuple[float, ...]], mine: tuple[float, ...]) -> int | None:
    """The first row that dominates one; the most accurate comes first."""
    for row, theirs in zip(rows, losses, strict=True):
        if theirs != mine and all(their <= own for their, own in zip(theirs, mine, strict=True)):
            return row.number
    return None


def _row(
    stored: StoredStudy,
    trial: FrozenTrial,
    final: Mapping[str, Any] | None,
    present: Present,
) -> FrontRow:
    measurement = present.measurements.get(final["onnx_sha256"]) if final else None
    searched_ms = trial.values[1]
    found = searched_ms if trial.user_attrs["latency_source"] == "predicted" else None
    predicted = final["predicted_ms"] if final else found
    measured = measurement.p50_ms if measurement else None
    onnx_sha256 = final["onnx_sha256"] if final else trial.user_attrs["onnx_sha256"]
    repredicted = _changed(predicted, present.predictions.get(onnx_sha256))
    latency_ms = measured or repredicted or predicted or searched_ms
    limit = stored.config.max_latency_ms
    model = stored.model_path(trial.number)
    return FrontRow(
        number=trial.number,
        accuracy=final["accuracy"] if final else trial.values[0],
        test_accuracy=final["test_accuracy"] if final else None,
        latency_ms=latency_ms,
        predicted_ms=predicted,
        repredicted_ms=repredicted,
        measured_ms=measured,
        measured_low_ms=measurement.low_ms if measurement else None,
        measured_high_ms=measurement.high_ms if measurement else None,
        unstable_because=measurement.unstable_because if measurement else None,
        size_bytes=final["size_bytes"] if final else trial.user_attrs["size_bytes"],
        techniques=(final or {}).get("techniques") or trial.user_attrs.get("techniques", ""),
        trained_longer=trained_longer(final),
        within_budget=limit is None or latency_ms <= limit,
        model=str(model) if final and model.is_file() else None,
    )


def _changed(searched_ms: float | None, present: Prediction | None) -> float | None:
    """The present prediction where the search used another one."""
    if searched_ms is None or present is None or not present.usable or present.ms == searched_ms:
        return None
    return present.ms


def measurement_of(stored: StoredStudy, final: Mapping[str, Any] | None) -> Measurement | None:
    """The measurement of a final file on the study's own target."""
    if final is None:
        return None
    return stored.tables.measurement(final["onnx_sha256"], stored.target_key)


def trial_rows(stored: StoredStudy, present: Present | None = None) -> list[dict[str, Any]]:
    """Every trial, for `show STUDY`: `latency_ms` as the search used it, and beside it what is known of it now."""
    present = present or Present.of(stored)
    return [_trial_row(trial, present) for trial in stored.trials()]


def _trial_row(trial: FrozenTrial, present: Present) -> dict[str, Any]:
    accuracy, latency_ms = trial.values[:2] if trial.values else (None, None)
    attrs = trial.user_attrs
    onnx_sha256 = attrs.get("onnx_sha256", "")
    measurement = present.measurements.get(onnx_sha256)
    predicted_ms = latency_ms if attrs.get("latency_source") == "predicted" else None
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "accuracy": accuracy,
        "latency_ms": latency_ms,
        "repredicted_ms": _changed(predicted_ms, present.predictions.get(onnx_sha256)),
        "measured_ms": measurement.p50_ms if measurement else None,
        "size_bytes": attrs.get("size_bytes"),
        "techniques": attrs.get("techniques"),
        "why": attrs.get("why"),
    }
