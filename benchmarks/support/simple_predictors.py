"""The simple ways to predict a latency, from the same measured networks or in the same time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper
from sklearn.ensemble import GradientBoostingRegressor

from nas_edge.errors import ModelError, NasEdgeError
from nas_edge.latency.graph import Work, kernels_of
from nas_edge.latency.shapes import TypedShape, infer_shapes
from nas_edge.onnx_files import read_onnx
from nas_edge.targets.local import LocalTarget

Predict = Callable[[Sequence[Path], Sequence[Work]], list[float]]
Array = npt.NDArray[np.float64]
SECONDS_AN_OPERATOR = 0.06
FREE = ("Constant", "Identity", "Dropout", "Reshape", "Flatten")


def simple_predictors(seen: Sequence[tuple[Path, float]], budget_s: float, threads: int) -> dict[str, Predict]:
    """The ways by name. `seen` are the calibration's networks and their latencies in ms."""
    works = [kernels_of(read_onnx(path)) for path, _ in seen]
    measured = np.array([ms for _, ms in seen])
    return {
        "proportional_to_macs": _by_macs(works, measured),
        "boosted_trees_on_networks": _by_trees(works, measured),
        "sum_of_isolated_operators": _by_operators([path for path, _ in seen], budget_s, threads),
    }


def _macs(work: Work) -> float:
    return float(max(sum(k.macs for k in work.kernels), 1))


def _by_macs(works: Sequence[Work], measured: Array) -> Predict:
    """One price a multiply-accumulate, by the median of the networks."""
    price = float(np.median(measured / np.array([_macs(w) for w in works])))
    return lambda paths, others: [price * _macs(work) for work in others]


def _by_trees(works: Sequence[Work], measured: Array) -> Predict:
    """Gradient boosting of the logarithm on sums over the whole network, by kind of kernel."""
    kinds = sorted({k.kind for w in works for k in w.kernels})

    def features(work: Work) -> list[float]:
        row = {kind: [0.0, 0.0, 0.0] for kind in kinds}
        for kernel in work.kernels:
            if kernel.kind in row:
                row[kernel.kind][0] += 1
                row[kernel.kind][1] += kernel.macs
                row[kernel.kind][2] += kernel.features.get("kilobytes", 0.0)
        total = [np.log(_macs(work)), float(len(work.kernels))]
        return total + [np.log1p(value) for kind in kinds for value in row[kind]]

    trees = GradientBoostingRegressor(
        n_estimators=500, learning_rate=0.03, max_depth=4, subsample=0.7, random_state=0, loss="huber"
    )
    trees.fit([features(w) for w in works], np.log(measured))
    return lambda paths, others: list(np.exp(trees.predict([features(w) for w in others])))


def _by_operators(paths: Sequence[Path], budget_s: float, threads: int) -> Predict:
    """Each ONNX operator measured alone, as often as the time allows; others by the nearest of their kind."""
    table: dict[str, list[tuple[Array, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder, LocalTarget(threads=str(threads)).campaign() as run:
        end = time.monotonic() + budget_s
        known: dict[tuple[object, ...], tuple[str, Array]] = {}
        order: list[tuple[object, ...]] = []
        for path in paths:
            if time.monotonic() > end - SECONDS_AN_OPERATOR * (len(order) + 20) * 3:
                break
            model = read_onnx(path)
            types = infer_shapes(model, 1)
            for node in model.graph.node:
                key = _key(node, types)
                if key is None or key in known:
                    continue
                file = Path(folder) / f"operator_{len(known)}.onnx"
                try:
                    file.write_bytes(_alone(node, model, types).SerializeToString())
                    run.add(file)
                except (NasEdgeError, ModelError, ValueError, KeyError):
                    continue
                known[key] = node.op_type, _size(node, types)
                order.append(key)
        run.run(max(end - time.monotonic(), 1.0), min_rounds=1)
        for key, ms in zip(order, run.latencies_ms(), strict=True):
            op, size = known[key]
            table.setdefault(op, []).append((size, ms))

    def one(path: Path) -> float:
        model = read_onnx(path)
        types = infer_shapes(model, 1)
        return sum(_nearest(table, node, types) for node in model.graph.node if _key(node, types) is not None)

    return lambda files, others: [max(one(path), 1e-6) for path in files]


def _key(node: onnx.NodeProto, types: dict[str, TypedShape]) -> tuple[object, ...] | None:
    """What tells operators apart: kind, attributes and shapes; None for those that cost nothing alone."""
    names = [name for name in (*node.input, *node.output) if name]
    if node.op_type in FREE or any(name not in types for name in names):
        return None
    attributes = tuple(sorted(a.SerializeToString() for a in node.attribute))
    return (node.op_type, attributes, tuple((types[n].shape, types[n].element_bytes) for n in names))


def _size(node: onnx.NodeProto, types: dict[str, TypedShape]) -> Array:
    """The logarithms of the elements read, of the largest constant-like input and of those written."""
    read = [types[n].elements for n in node.input if n]
    written = sum(types[n].elements for n in node.output if n)
    return np.log([max(read[0], 1), max([*read[1:], 1]), max(written, 1)])


def _nearest(table: dict[str, list[tuple[Array, float]]], node: onnx.NodeProto, types: dict[str, TypedShape]) -> float:
    rows = table.get(node.op_type, [])
    if not rows:
        return 0.0
    size = _size(node, types)
    return min(rows, key=lambda row: float(np.abs(row[0] - size).sum()))[1]


def _alone(node: onnx.NodeProto, model: onnx.ModelProto, types: dict[str, TypedShape]) -> onnx.ModelProto:
    """A model of that one operator; its constants stay, what other operators compute becomes an input."""
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    elements = {v.name: v.type.tensor_type.elem_type for v in values}
    constants = {w.name: w for w in model.graph.initializer}
    inputs = [n for n in dict.fromkeys(node.input) if n and n not in constants]
    graph = helper.make_graph(
        [node],
        "alone",
        [helper.make_tensor_value_info(n, elements[n], list(types[n].shape)) for n in inputs],
        [helper.make_tensor_value_info(n, elements[n], list(types[n].shape)) for n in node.output if n],
        [constants[n] for n in node.input if n in constants],
    )
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=min(model.ir_version, 8))
