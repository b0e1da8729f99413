"""How fast a network is on a target: predicted where a profile knows such networks, measured where not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import onnx
from torch import nn

from nas_edge.contracts import ImageData, Target
from nas_edge.errors import MeasurementError
from nas_edge.export import export_onnx, save_model, sha256_of
from nas_edge.plugins import Registry
from nas_edge.records import Prediction

MEASURE_BUDGET_S = 1.0


class Predictions(Protocol):
    """The predictions of one profile on one target that are known already, by the hash of the ONNX file."""

    def find(self, onnx_sha256: str) -> Prediction | None:
        """What was predicted of a file before."""
        ...

    def keep(self, onnx_sha256: str, prediction: Prediction) -> None:
        """Store a prediction."""
        ...


@dataclass(frozen=True)
class Latency:
    """A latency with its interval, whether it was "predicted" or "measured", and why it may not be trusted."""

    ms: float
    low_ms: float
    high_ms: float
    source: str
    unstable_because: str | None = None


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


def usable(prediction: Prediction | None) -> Latency | None:
    """The latency of a prediction that leaves nothing out; None where the network must be measured."""
    if prediction is None or not prediction.usable:
        return None
    return Latency(prediction.ms, prediction.low_ms, prediction.high_ms, "predicted")


@dataclass
class Estimator:
    """Latencies of one candidate's networks on a target. What was predicted or measured once is not asked for again.

    Nor is it measured again with other weights: what is undone is often trained anew, and runs as fast as before.
    """

    registry: Registry
    target: Target
    work_dir: Path
    known: Predictions | None = None
    _predicted: dict[str, Prediction | None] = field(default_factory=dict)
    _measured: dict[str, Latency] = field(default_factory=dict)

    def of_file(self, graph: onnx.ModelProto, path: Path) -> Latency:
        """The latency of a final file, whose prediction is kept. Raises `MeasurementError`."""
        onnx_sha256 = sha256_of(path)
        prediction = self.known.find(onnx_sha256) if self.known else None
        if prediction is None:
            prediction = self._predict(graph)
            if self.known and prediction is not None:
                self.known.keep(onnx_sha256, prediction)
        return usable(prediction) or self.measured(graph)

    def predicted(self, graph: onnx.ModelProto) -> Latency | None:
        """What the profile says of a graph that is not kept; None where it knows no such networks."""
        return usable(self._predict(graph))

    def measured(self, graph: onnx.ModelProto) -> Latency:
        """Raises `MeasurementError`."""
        key = layers_sha256(graph)
        if key not in self._measured:
            path = self.work_dir / "measured.onnx"
            save_model(graph, path)
            found = self.target.measure(path, MEASURE_BUDGET_S)
            interval = (found.p50_ms, found.low_ms, found.high_ms)
            self._measured[key] = Latency(*interval, "measured", found.unstable_because)
        return self._measured[key]

    def try_measured(self, graph: onnx.ModelProto) -> Latency | None:
        """None where the target cannot measure this one."""
        try:
            return self.measured(graph)
        except MeasurementError:
            return None

    def model_ms(self, model: nn.Module, data: ImageData) -> float:
        """What `Context.latency_ms` gives. Raises `ExportError` or `MeasurementError`."""
        graph = export_onnx(model, channels=data.channels, resolution=data.resolution)
        return (self.predicted(graph) or self.measured(graph)).ms

    def _predict(self, graph: onnx.ModelProto) -> Prediction | None:
        key = content_sha256(graph)
        if key not in self._predicted:
            self._predicted[key] = _ask(self.registry, graph, self.target)
        return self._predicted[key]


def content_sha256(model: onnx.ModelProto) -> str:
    """What the model's file is known by."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def layers_sha256(model: onnx.ModelProto) -> str:
    """What one candidate's networks are alike in that differ only by the values of their weights."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for constant in bare.graph.initializer:
        if constant.data_type != onnx.TensorProto.INT64:  # those are shapes and axes
            shape, data_type, name = tuple(constant.dims), constant.data_type, constant.name
            constant.Clear()
            constant.dims.extend(shape)
            constant.data_type, constant.name = data_type, name
    return content_sha256(bare)
