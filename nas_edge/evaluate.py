"""The product in one line, left to right: spec -> torch module -> techniques -> ONNX file -> accuracy and latency."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import onnx

from nas_edge.contracts import Candidate, Context, Target
from nas_edge.export import accuracy, sha256_of
from nas_edge.latency.graph import parameter_count, total_macs
from nas_edge.pipeline import produce, timed
from nas_edge.plugins import Registry
from nas_edge.records import Evaluation, Prediction
from nas_edge.spec import CandidateSpec

if TYPE_CHECKING:
    from nas_edge.config import TrainConfig

MEASURE_BUDGET_S = 1.0


class Predictions(Protocol):
    """The predictions of one profile on one target that are known already, by the hash of the ONNX file."""

    def find(self, onnx_sha256: str) -> Prediction | None:
        """What was predicted of a file before."""
        ...

    def keep(self, onnx_sha256: str, prediction: Prediction) -> None:
        """Store a prediction."""
        ...


def evaluate(
    registry: Registry,
    spec: CandidateSpec,
    context: Context,
    train: TrainConfig,
    known: Predictions | None = None,
) -> tuple[Candidate, Evaluation]:
    """One candidate: made, trained, compressed, exported, and judged as the file that would ship.

    Raises `InvalidCandidate`, `ExportError` or `MeasurementError`; each costs this candidate alone.
    """
    start = time.perf_counter()
    candidate = produce(registry, spec, context, train)
    graph, path = artifacts(candidate)
    with timed(candidate, "judge"):
        right = accuracy(graph, context.data.validation)
        latency = estimate_latency(registry, graph, path, context.target, known)
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
    )


@dataclass(frozen=True)
class Latency:
    """A latency with its interval, and whether it was "predicted" or "measured"."""

    ms: float
    low_ms: float
    high_ms: float
    source: str


def estimate_latency(
    registry: Registry, graph: onnx.ModelProto, path: Path, target: Target, known: Predictions | None = None
) -> Latency:
    """Predicted where a profile knows such networks, measured on the target where not."""
    prediction = predict(registry, graph, path, target, known)
    if prediction is not None and not prediction.unsupported and not prediction.outside:
        return Latency(prediction.ms, prediction.low_ms, prediction.high_ms, "predicted")
    measured = target.measure(path, MEASURE_BUDGET_S)
    return Latency(measured.p50_ms, measured.low_ms, measured.high_ms, "measured")


def predict(
    registry: Registry, graph: onnx.ModelProto, path: Path, target: Target, known: Predictions | None = None
) -> Prediction | None:
    """What was predicted of this file before, or what the `predict_latency` hook says of its graph now."""
    if known is None:
        return _ask(registry, graph, target)
    onnx_sha256 = sha256_of(path)
    prediction = known.find(onnx_sha256)
    if prediction is None:
        prediction = _ask(registry, graph, target)
        if prediction is not None:
            known.keep(onnx_sha256, prediction)
    return prediction


def _ask(registry: Registry, graph: onnx.ModelProto, target: Target) -> Prediction | None:
    answer: Prediction | None = registry.hooks.hook.predict_latency(graph=graph, target=target)
    return answer


def draft_latency(registry: Registry, spec: CandidateSpec, context: Context, train: TrainConfig) -> Latency:
    """How fast a candidate would be, before any training: the same path with random weights."""
    candidate = produce(registry, spec, replace(context, trained=False, notes=[]), train)
    return estimate_latency(registry, *artifacts(candidate), context.target)


def artifacts(candidate: Candidate) -> tuple[onnx.ModelProto, Path]:
    """The ONNX model and file of a candidate that was produced."""
    if candidate.graph is None or candidate.onnx_path is None:
        raise ValueError("the candidate has no ONNX file yet; call produce() first")
    return candidate.graph, candidate.onnx_path
