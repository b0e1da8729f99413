"""The product in one line, left to right: spec -> torch module -> techniques -> ONNX file -> accuracy and latency."""

from __future__ import annotations

import time
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import onnx

from nas_edge.contracts import Candidate, Context
from nas_edge.estimate import Estimator, Latency, Predictions
from nas_edge.export import accuracy, sha256_of
from nas_edge.gate import Gate
from nas_edge.latency.graph import parameter_count, total_macs
from nas_edge.machine_lock import working
from nas_edge.making import timed
from nas_edge.pipeline import Reconsider, produce
from nas_edge.plugins import Registry
from nas_edge.records import Evaluation
from nas_edge.spec import CandidateSpec

if TYPE_CHECKING:
    from nas_edge.config import TrainConfig


@working()
def evaluate(
    registry: Registry,
    spec: CandidateSpec,
    context: Context,
    train: TrainConfig,
    known: Predictions | None = None,
    gate: Gate | None = None,
    undone: AbstractSet[str] = frozenset(),
    reconsider: Reconsider | None = None,
) -> tuple[Candidate, Evaluation]:
    """One candidate: made, trained, compressed, exported, and judged as the file that would ship.

    `undone` names techniques that are left out without asking: so a candidate is made again as it was. `reconsider` may
    raise before a candidate is trained again without what was undone.
    Raises `InvalidCandidate`, `ExportError` or `MeasurementError`; each costs this candidate alone.
    """
    start = time.perf_counter()
    estimator = Estimator(registry, context.target, context.work_dir, known)
    candidate = produce(
        registry, spec, context, train, estimator=estimator, gate=gate, undone=undone, reconsider=reconsider
    )
    graph, path = artifacts(candidate)
    with timed(candidate, "judge"):
        right = candidate.accuracy
        if right is None:
            right = accuracy(graph, context.data.validation, context.target)
        latency = estimator.of_file(graph, path)
    seconds = {**candidate.seconds, "total": time.perf_counter() - start}
    return candidate, Evaluation(
        key=spec.key,
        accuracy=right,
        latency_ms=latency.ms,
        latency_low_ms=latency.low_ms,
        latency_high_ms=latency.high_ms,
        latency_source=latency.source,
        size_bytes=path.stat().st_size,
        parameters=parameter_count(graph),
        macs=total_macs(graph),
        onnx_sha256=sha256_of(path),
        seconds={name: round(value, 3) for name, value in seconds.items()},
        steps=tuple(candidate.steps),
        techniques=candidate.techniques,
        latency_unstable_because=latency.unstable_because,
    )


class Draft(NamedTuple):
    """What is known of a candidate before its training."""

    latency: Latency
    size_bytes: int
    macs: int | None
    parameters: int


def make_draft(
    registry: Registry, spec: CandidateSpec, context: Context, train: TrainConfig, gate: Gate | None = None
) -> Draft:
    """How fast and large a candidate would be, before any training: the same path with the weights there are."""
    estimator = Estimator(registry, context.target, context.work_dir)
    draft = replace(context, trained=False, notes=[])
    candidate = produce(registry, spec, draft, train, estimator=estimator, gate=gate)
    graph, path = artifacts(candidate)
    return Draft(estimator.of_file(graph, path), path.stat().st_size, total_macs(graph), parameter_count(graph))


def artifacts(candidate: Candidate) -> tuple[onnx.ModelProto, Path]:
    """The ONNX model and file of a candidate that was produced."""
    if candidate.graph is None or candidate.onnx_path is None:
        raise ValueError("the candidate has no ONNX file yet; call produce() first")
    return candidate.graph, candidate.onnx_path
