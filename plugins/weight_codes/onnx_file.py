"""Coded weights in an ONNX file: packed codes, levels and factors, and the operators that make weights of them.

For all weights with the same number of levels:

    codes uint8 [words, word bytes] -> Cast int64 -> MatMul with the powers of 256 (words of several bytes)
        -> Div by the powers of the number of levels -> Mod by that number -> Reshape [-1]
        -> Gather from the levels, if all weights have the same -> Split

and for each weight: Gather from its own levels, otherwise -> Reshape -> Mul with a factor for each output channel.
Cast and Add stand for Gather where the levels are consecutive integers.
All of it is in opset 13 and has constant inputs, so ONNX Runtime computes it when it loads the file. It does not so
with DequantizeLinear of a constant (seen with 1.31, from INT2 to INT8): that would run anew for each image.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from ..compact import number_tensors
from .layers import CodedLayer
from .packing import Packing, densest

Array = npt.NDArray[np.float32]
TOLERANCE = 1e-6  # of the largest weight of a channel: a few roundings of float32


@dataclass(frozen=True)
class PackedWeight:
    """A constant of the file that is `factors[channel] * levels[index]`, with its channels on axis 0 or 1."""

    name: str
    index: npt.NDArray[np.uint8]
    levels: Array
    factors: Array
    axis: int

    def spread_factors(self) -> Array:
        shape = [1] * self.index.ndim
        shape[self.axis] = -1
        return self.factors.reshape(shape)


def pack_weights(model: onnx.ModelProto, layers: Sequence[CodedLayer]) -> tuple[onnx.ModelProto, str]:
    """A copy with the layers' weights packed, and what was done in words; the model itself where it has none of them.

    The copy's weights are the model's, within 1e-6 of a channel's largest.
    """
    weights, missing = find_weights(model.graph, layers)
    if not weights:
        return model, "the file has no coded weights, and is left as it is"
    packed = onnx.ModelProto()
    packed.CopyFrom(model)
    graph = packed.graph
    writer = _Writer()
    for group in _by_level_count(weights):
        writer.write(group)
    coded = {w.name for w in weights}
    nodes = [*writer.nodes, *graph.node]
    constants = [*writer.constants, *(i for i in graph.initializer if i.name not in coded)]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    number_tensors(graph)
    report = _report(weights, writer.code_bytes, model.ByteSize(), packed.ByteSize())
    if missing:
        report += f"; left in float, for the file has other weights there: {', '.join(missing)}"
    return packed, report


def find_weights(graph: onnx.GraphProto, layers: Sequence[CodedLayer]) -> tuple[list[PackedWeight], list[str]]:
    """The constants that the layers' weights became, and the layers that have none.

    Export folds batch normalisation in, which is a factor for each output channel, may transpose, and may write equal
    weights once.
    """
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    found: dict[str, PackedWeight] = {}
    missing = []
    for layer in layers:
        weight = layer.weight
        free_first = sorted(constants, key=found.__contains__)
        match = next((m for name in free_first if (m := _match(name, constants[name], layer, weight))), None)
        if match is None:
            missing.append(layer.name)
        else:
            found.setdefault(match.name, match)
    return list(found.values()), missing


def _match(name: str, value: Array, layer: CodedLayer, weight: Array) -> PackedWeight | None:
    if value.shape == weight.shape:
        factors = _factors(value, layer, weight)
        if factors is not None:
            return _with_one_factor(PackedWeight(name, layer.index, layer.levels, factors, 0))
    if value.ndim == 2 and value.shape == weight.T.shape:
        factors = _factors(np.ascontiguousarray(value.T), layer, weight)
        if factors is not None:
            return _with_one_factor(PackedWeight(name, layer.index.T, layer.levels, factors, 1))
    return None


def _factors(value: Array, layer: CodedLayer, weight: Array) -> Array | None:
    """The factor of each channel's levels that gives the values `[out, ...]`, or None where there is none."""
    outputs = len(value)
    flat, codes = value.reshape(outputs, -1), layer.levels[layer.index].reshape(outputs, -1)
    largest = np.abs(codes).argmax(axis=1)[:, None]
    of_codes = np.take_along_axis(codes, largest, axis=1).astype(np.float64)
    of_values = np.take_along_axis(flat, largest, axis=1)
    factors = np.divide(of_values, of_codes, out=np.zeros_like(of_codes), where=of_codes != 0).astype(np.float32)
    limit = TOLERANCE * np.abs(flat).max(axis=1, keepdims=True)
    return factors[:, 0] if (np.abs(factors * codes - flat) <= limit).all() else None


def _with_one_factor(weight: PackedWeight) -> PackedWeight:
    """Where all channels have one factor, it goes to the levels."""
    first = weight.factors[:1]
    if not (weight.factors == first).all():
        return weight
    return PackedWeight(weight.name, weight.index, first * weight.levels, np.ones(1, np.float32), weight.axis)


def _by_level_count(weights: Sequence[PackedWeight]) -> list[list[PackedWeight]]:
    groups: dict[int, list[PackedWeight]] = {}
    for weight in weights:
        groups.setdefault(len(weight.levels), []).append(weight)
    return [groups[count] for count in sorted(groups)]


@dataclass
class _Writer:
    """The operators and constants so far, and the bytes of the codes among them."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    code_bytes: int = 0
    _known: dict[bytes, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def write(self, weights: Sequence[PackedWeight]) -> None:
        """Adds what makes the weights, which have one number of levels."""
        packing = densest(len(weights[0].levels))
        stream = np.concatenate([w.index.reshape(-1) for w in weights])
        value = self._unpacked(packing, stream)
        shared = all(np.array_equal(w.levels, weights[0].levels) for w in weights)
        if shared:
            value = self._of_level(weights[0].levels, value)
        sizes = [w.index.size for w in weights]
        padding = -len(stream) % packing.digits
        parts = [self._name() for _ in (*sizes, *([padding] if padding else []))]
        sizes += [padding] if padding else []
        self.nodes.append(helper.make_node("Split", [value, self._constant(_integers(sizes))], parts, axis=0))
        for weight, part in zip(weights, parts, strict=False):
            self._weight(weight, part if shared else self._of_level(weight.levels, part))

    def _unpacked(self, packing: Packing, stream: npt.NDArray[np.uint8]) -> str:
        packed = packing.pack(stream)
        self.code_bytes += packed.nbytes
        value = self._node("Cast", self._constant(packed), to=onnx.TensorProto.INT64)
        if packing.word_bytes > 1:
            value = self._node(
                "MatMul", value, self._constant(_integers([[256**i] for i in range(packing.word_bytes)]))
            )
        value = self._node("Div", value, self._constant(_integers([packing.levels**i for i in range(packing.digits)])))
        value = self._node("Mod", value, self._constant(_integers([packing.levels])))
        return self._node("Reshape", value, self._constant(_integers([-1])))

    def _of_level(self, levels: Array, index: str) -> str:
        """The levels at indices. Consecutive integers, as of uniform codes, need no table."""
        if np.array_equal(levels, levels[0] + np.arange(len(levels))):
            return self._node("Add", self._node("Cast", index, to=onnx.TensorProto.FLOAT), self._constant(levels[:1]))
        return self._node("Gather", self._constant(levels), index)

    def _weight(self, weight: PackedWeight, value: str) -> None:
        """The last operators of a weight; its consumers know it by its name."""
        shape = self._constant(_integers(weight.index.shape))
        if len(weight.factors) == 1:
            self.nodes.append(helper.make_node("Reshape", [value, shape], [weight.name]))
            return
        factors = self._constant(weight.spread_factors())
        self.nodes.append(helper.make_node("Mul", [self._node("Reshape", value, shape), factors], [weight.name]))

    def _node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = self._name()
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def _constant(self, value: npt.NDArray[np.generic]) -> str:
        """The name of a constant, one for equal ones."""
        key = f"{value.dtype}{value.shape}".encode() + value.tobytes()
        if key not in self._known:
            self._known[key] = self._name()
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), self._known[key]))
        return self._known[key]

    def _name(self) -> str:
        return f"weight_codes.{next(self._numbers)}"


def _integers(values: Sequence[int] | Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def _report(weights: Sequence[PackedWeight], code_bytes: int, before: int, after: int) -> str:
    count = sum(w.index.size for w in weights)
    return (
        f"packed {count:,} weights of {len(weights)} layers at {8 * code_bytes / count:.2f} bits, {code_bytes:,} bytes "
        f"instead of {4 * count:,}; the file has {after:,} bytes instead of {before:,}; ONNX Runtime unpacks the "
        "weights when it loads it, so the speed is that of float"
    )
