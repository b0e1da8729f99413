"""All that the report of a study says, as data: what `--format json` writes, and the page and its pictures draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from nas_edge.engine.baseline import stored_baselines
from nas_edge.model_names import ModelReference
from nas_edge.report.audit import latency_audit
from nas_edge.report.baseline import Baseline, baseline_of
from nas_edge.report.compression import Compression
from nas_edge.report.facts import CPU, Facts, facts
from nas_edge.report.findings import Finding, findings
from nas_edge.report.front import FrontRow, front_rows
from nas_edge.report.hypervolume import Advances, advances
from nas_edge.report.importance import Importances, importances
from nas_edge.report.layers import Layers, layers
from nas_edge.report.points import Points, points
from nas_edge.report.summary import counts
from nas_edge.report.waterfall import TechniqueEffect, Waterfall, effects, waterfalls
from nas_edge.store.study import StoredStudy

VERSION = 1  # of the JSON
LOCAL = "local"


@dataclass(frozen=True)
class Pair:
    """A random search's member of its own front: what the picture of the front compares with."""

    search: str
    number: int
    accuracy: float
    latency_ms: float


@dataclass(frozen=True)
class StudyReport:
    """The parts of the report. Accuracies are fractions, latencies in ms, sizes in bytes; None is what is not known.

    `winner` is the number of the most accurate member of the front within the latency limit; of a compression, of the
    model to ship. `teacher_accuracy` is that of the network that candidates learn from, on validation.
    """

    study: str
    made: str
    title: str
    winner: int | None
    findings: tuple[Finding, ...]
    counts: dict[str, int]
    max_latency_ms: float | None
    teacher_accuracy: float | None
    front: tuple[FrontRow, ...]
    points: Points
    random_fronts: tuple[Pair, ...]
    given: Pair | None
    goals: dict[str, Any] | None
    waterfalls: tuple[Waterfall, ...]
    effects: tuple[TechniqueEffect, ...]
    audit: dict[str, Any] | None
    random_search: Baseline | None
    hypervolume: Advances | None
    importance: Importances | None
    layers: Layers | None
    facts: dict[str, Facts]

    @classmethod
    def of(cls, stored: StoredStudy) -> StudyReport:
        """Reads the study once. Raises `StorageError` where its database cannot be read."""
        stored, baselines = stored.snapshot(), [other.snapshot() for other in stored_baselines(stored)]
        front, compression = tuple(sorted(front_rows(stored), key=_order)), Compression.of(stored)
        winner = _winner(front, compression)
        audit, random_search = latency_audit(stored), baseline_of(stored, baselines)
        seen, found_effects, advanced = points(stored, front), tuple(effects(stored)), advances(stored, baselines)
        steps, known = tuple(waterfalls(stored, front)), facts(stored)
        return cls(
            study=stored.config.name,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            title=_title(stored, known["Device"]),
            winner=None if winner is None else winner.number,
            findings=tuple(findings(stored, front, steps, found_effects, audit, random_search, compression)),
            counts=counts(stored),
            max_latency_ms=stored.config.max_latency_ms,
            teacher_accuracy=stored.study.user_attrs.get("teacher_accuracy"),
            front=front,
            points=seen,
            random_fronts=tuple(_random_fronts(baselines)),
            given=_given(compression),
            goals=compression.to_json() if compression else None,
            waterfalls=steps,
            effects=found_effects,
            audit=audit,
            random_search=random_search,
            hypervolume=advanced,
            importance=importances(stored),
            layers=None if winner is None else layers(stored, winner),
            facts=known,
        )

    def to_json(self) -> dict[str, Any]:
        """What `--format json` writes."""
        return {"version": VERSION, **asdict(self)}


def _title(stored: StoredStudy, device: Facts) -> str:
    """What was searched, for which data and device."""
    data = (stored.study.user_attrs.get("data") or {}).get("name", stored.config.data)
    model = stored.config.model
    subject = f"{ModelReference.parse(model).short} compressed" if model else f"Networks of {stored.config.space}"
    target, cpu = device["target"], device.get(CPU)
    return f"{subject} for {data} on {cpu or target}" + (f" ({target})" if cpu and target != LOCAL else "")


def _order(row: FrontRow) -> tuple[float, float]:
    """The most accurate first, by what is known now: more training changes the order."""
    return -row.accuracy, row.latency_ms


def _winner(front: Sequence[FrontRow], compression: Compression | None) -> FrontRow | None:
    if compression is not None:
        return next((row for row in front if row.number == compression.best.number), None)
    return next((row for row in front if row.within_budget), None)


def _given(compression: Compression | None) -> Pair | None:
    if compression is None:
        return None
    model = compression.baseline
    return Pair("the model as it was given", model.number, model.accuracy, model.latency_ms)


def _random_fronts(baselines: Sequence[StoredStudy]) -> list[Pair]:
    return [
        Pair(other.config.name, row.number, row.accuracy, row.latency_ms)
        for other in baselines
        for row in front_rows(other)
    ]
