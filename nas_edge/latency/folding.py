"""Computes the integers that a graph derives from shapes, where ONNX's own shape inference gives up on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Integers = npt.NDArray[Any]
LARGEST = 64  # elements: a shape, not an image


def fold_integers(graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Replace nodes whose value follows from known shapes by initializers; returns how many.

    `shapes` are those that are known so far. What is left out stays as it is.
    """
    known = {w.name: numpy_helper.to_array(w) for w in graph.initializer if np.prod(w.dims, dtype=int) <= LARGEST}
    kept: list[onnx.NodeProto] = []
    folded = 0
    for node in graph.node:
        value = _value(node, known, shapes)
        if value is None:
            kept.append(node)
            continue
        folded += 1
        known[node.output[0]] = value
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    if folded:
        del graph.node[:]
        graph.node.extend(kept)
    return folded


def _value(node: onnx.NodeProto, known: Mapping[str, Integers], shapes: Mapping[str, Sequence[int]]) -> Integers | None:
    """The integers that a node computes, or None where it computes something else or they are not known."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Shape" and node.input[0] in shapes:
        sides = shapes[node.input[0]]
        return np.array(sides[attributes.get("start", 0) : attributes.get("end", len(sides))], dtype=np.int64)
    if node.op_type == "Constant" and "value" in attributes:
        value = numpy_helper.to_array(attributes["value"])
        return value if value.size <= LARGEST and value.dtype.kind in "iu" else None
    operation = OPERATIONS.get(node.op_type)
    inputs = [known.get(name) for name in node.input if name]
    if operation is None or not inputs or any(v is None or v.dtype.kind not in "iub" for v in inputs):
        return None
    try:
        value = np.asarray(operation([v for v in inputs if v is not None], attributes))
    except (IndexError, ValueError, ZeroDivisionError, TypeError):
        return None
    return value.astype(np.int64) if value.dtype.kind in "iub" else None


def _slice(values: list[Integers], _: Mapping[str, Any]) -> Integers:
    data, starts, ends, *rest = values
    axes = rest[0] if rest else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else np.ones(len(starts), dtype=int)
    index = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[int(axis)] = slice(int(start), int(end), int(step))
    return data[tuple(index)]


def _unsqueeze(values: list[Integers], attributes: Mapping[str, Any]) -> Integers:
    axes = values[1] if len(values) > 1 else attributes["axes"]
    return np.expand_dims(values[0], tuple(int(a) for a in np.ravel(axes)))


def _squeeze(values: list[Integers], attributes: Mapping[str, Any]) -> Integers:
    axes = values[1] if len(values) > 1 else attributes.get("axes")
    return np.squeeze(values[0], None if axes is None else tuple(int(a) for a in np.ravel(axes)))


OPERATIONS: dict[str, Callable[[list[Integers], Mapping[str, Any]], Any]] = {
    "Add": lambda v, _: v[0] + v[1],
    "Cast": lambda v, _: v[0],
    "Concat": lambda v, a: np.concatenate([np.atleast_1d(x) for x in v], axis=a["axis"]),
    "Div": lambda v, _: v[0] // v[1],
    "Gather": lambda v, a: np.take(v[0], v[1], axis=a.get("axis", 0)),
    "Identity": lambda v, _: v[0],
    "Mul": lambda v, _: v[0] * v[1],
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": lambda v, _: v[0] - v[1],
    "Unsqueeze": _unsqueeze,
}
