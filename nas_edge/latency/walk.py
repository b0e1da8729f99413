"""A walk over an ONNX graph: shapes, memory layouts, what runs in int8, and the kernels so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import onnx
import onnx.numpy_helper

from nas_edge.latency.shapes import RawNode, TypedShape, infer_shapes, raw_nodes

LANES = 16  # what integer kernels, and the widest ones of floats, work on at once
PLAIN, BLOCKED, CHANNELS_LAST = "plain", "blocked", "channels_last"
# Operators that ONNX Runtime has in int8 when their inputs come from DequantizeLinear and their outputs are quantized.
QUANTIZABLE = frozenset(
    ("Conv", "Gemm", "MatMul", "Add", "Mul", "AveragePool", "GlobalAveragePool", "MaxPool", "Sigmoid", "LeakyRelu")
    + ("Concat", "Softmax", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split")
    + ("Gather", "Pad", "Relu", "Clip")
)
# These only choose among values: in int8 where their input and output have the same scale.
CHOOSING = frozenset(("ReduceMax", "ReduceMin", "Resize"))
INTEGER = QUANTIZABLE | CHOOSING
# These have an int8 form with a float output too.
FLOAT_OUTPUT = frozenset(("Gemm", "MatMul"))


class KernelWork(NamedTuple):
    """One kernel: what it is, its real multiply-accumulates, and what its time follows from.

    `features` are amounts of work, by name: each costs a price per unit (`calls` is how often it is started).
    `dims` are the sizes that place it among the other kernels of its kind, all above 0.
    """

    name: str
    kind: str
    macs: int
    features: Mapping[str, float]
    dims: tuple[float, ...]


@dataclass(slots=True)
class Node:
    """A node of the graph. `ends` are its output values after what it takes along (activation, quantization)."""

    index: int
    op: str
    inputs: list[str]
    outputs: list[str]
    proto: onnx.NodeProto
    ends: list[str]
    quantized: bool = False

    @property
    def name(self) -> str:
        return self.proto.name or self.outputs[0]

    def attribute(self, name: str, default: Any = None) -> Any:
        for attribute in self.proto.attribute:
            if attribute.name == name:
                if attribute.type == onnx.AttributeProto.INTS:  # most are, and the helper asks for other types first
                    return list(attribute.ints)
                return onnx.helper.get_attribute_value(attribute)
        return default


class Walk:
    """The state of a walk over one graph: shapes, layouts, and the kernels so far.

    `block` is how many channels a block of a float convolution has (see `blocks.channel_block`).
    """

    def __init__(self, model: onnx.ModelProto, batch: int, block: int) -> None:
        self.block = block
        nodes = raw_nodes(model.graph)
        self.types: dict[str, TypedShape] = infer_shapes(model, batch, nodes)
        self.constants: set[str] = {w.name for w in model.graph.initializer}
        self._graph = model.graph
        self.outputs: set[str] = {o.name for o in model.graph.output}
        self.nodes: list[Node] = []
        self.vague: set[str] = set()  # maps whose batch ONNX Runtime does not know before it runs
        self.producers: dict[str, Node] = {}
        self.consumers: dict[str, list[Node]] = {}
        self.absorbed: set[int] = set()
        self.layouts: dict[str, str] = {}
        self.origins: dict[str, str] = {}  # of blocked maps: the one that their batch comes from
        self.kernels: list[KernelWork] = []
        self.unsupported: dict[str, None] = {}
        self._copies: set[tuple[str, str]] = set()
        for node in nodes:
            self._add(node)
        for taken in self.nodes:
            self._find_quantized(taken)

    def _add(self, raw: RawNode) -> None:
        """Take a node in, unless it is constant: that ONNX Runtime computes once, on loading."""
        op, inputs, outputs, proto = raw
        named = [name for name in inputs if name] if "" in inputs else inputs
        if op == "Constant" or (named and self.constants.issuperset(named)):
            self.constants.update(outputs)
            return
        node = Node(len(self.nodes), op, inputs, outputs, proto, list(outputs))
        self.nodes.append(node)
        if op in ("Resize", "Reshape") or not self.vague.isdisjoint(named):
            self.vague.update(node.outputs)
        for name in node.outputs:
            self.producers[name] = node
        for name in named:
            self.consumers.setdefault(name, []).append(node)

    def _find_quantized(self, node: Node) -> None:
        """Mark a node that runs in int8, with the activation and the quantization that it takes along."""
        if node.op not in INTEGER or node.index in self.absorbed:
            return
        data = [self.producers.get(name) for name in self.data_inputs(node)]
        if not data or any(p is None or p.op != "DequantizeLinear" or not self._in_bytes(p) for p in data):
            return
        taken: list[Node] = []
        ends: list[str] = []
        for output in node.outputs:
            activation = self.sole_consumer(output)
            if activation is not None and activation.op in ("Relu", "Clip") and len(node.outputs) == 1:
                taken.append(activation)
                output = activation.outputs[0]
            quantizers = self.consumers.get(output, [])
            if output in self.outputs or not quantizers or any(q.op != "QuantizeLinear" for q in quantizers):
                if node.op in FLOAT_OUTPUT:
                    node.quantized = True
                return
            if node.op in CHOOSING and any(self._scale(q) != self._scale(data[0]) for q in quantizers):
                return
            taken.extend(quantizers)
            ends.extend(q.outputs[0] for q in quantizers)
        node.quantized, node.ends = True, ends
        self.absorbed.update(t.index for t in taken)

    def _in_bytes(self, quantizer: Node) -> bool:
        """Whether its integers have 8 bits: for others there are no integer kernels, and all runs in float."""
        zero = self._values.get(quantizer.inputs[2]) if len(quantizer.inputs) > 2 else None
        return zero is None or zero.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)

    def _scale(self, node: Node | None) -> list[bytes]:
        """The scale and the zero point of a quantizer, to tell whether two are the same."""
        constants = [self._values.get(name) for name in (node.inputs[1:3] if node else ())]
        return [onnx.numpy_helper.to_array(c).tobytes() if c is not None else b"?" for c in constants]

    @cached_property
    def _values(self) -> dict[str, onnx.TensorProto]:
        return {w.name: w for w in self._graph.initializer}

    def rescales(self, node: Node) -> bool:
        """Whether an int8 node's output has another scale than its input."""
        return self._scale(self.producers[node.ends[0]]) != self._scale(self.producers.get(node.inputs[0]))

    def data_inputs(self, node: Node) -> list[str]:
        """The inputs that are computed anew in each run."""
        return [name for name in node.inputs if name and name not in self.constants]

    def sole_consumer(self, value: str) -> Node | None:
        """The one node that reads a value, or None where several do or the caller gets it."""
        readers = self.consumers.get(value, [])
        return readers[0] if len(readers) == 1 and value not in self.outputs else None

    def source(self, node: Node, value: str) -> str:
        """The tensor that a kernel really reads: the int8 one before DequantizeLinear for an int8 kernel."""
        producer = self.producers.get(value)
        if node.quantized and producer is not None and producer.op == "DequantizeLinear":
            return producer.inputs[0]
        return value

    def shape(self, value: str) -> tuple[int, ...]:
        return self.types[value].shape

    def kilobytes(self, *values: str) -> float:
        return sum([self.types[value].size_bytes for value in values]) / 1024

    def layout(self, value: str) -> str:
        return self.layouts.get(value, PLAIN)

    def has(self, value: str, layout: str) -> bool:
        """Whether a value is there in a layout already."""
        return self.layout(value) == layout or (value, layout) in self._copies

    def origin(self, value: str) -> str:
        """The map that a blocked one has its batch from."""
        return self.origins.get(value, value)

    def named_batch(self, *values: str) -> bool:
        """Whether ONNX Runtime knows the batch of all these maps before it runs."""
        return self.vague.isdisjoint(values)

    def same_batch(self, first: str, *others: str) -> bool:
        """Whether ONNX Runtime can tell that blocked maps have one batch: by its name or by where it comes from."""
        return self.named_batch(first, *others) or all(self.origin(first) == self.origin(other) for other in others)

    def take(self, value: str, layout: str) -> None:
        """A kernel reads a value in a layout: once for each value and layout, a change is a kernel."""
        if self.has(value, layout):
            return
        self._copies.add((value, layout))
        shape = self.shape(value)
        if len(shape) == 4:
            kilobytes = 2 * self.kilobytes(value)
            last = CHANNELS_LAST in (layout, self.layout(value))
            kind = "reorder.channels_last" if last else f"reorder.{layout}"
            self.emit(f"{value}:{layout}", kind, {"kilobytes": kilobytes}, dims=(kilobytes, shape[1]))

    def give(self, node: Node, layout: str) -> None:
        """A kernel leaves its outputs in a layout."""
        origin = self.origins.get(node.outputs[0])
        for end in node.ends:
            self.layouts[end] = layout
            if origin is not None:
                self.origins[end] = origin

    def absorb(self, node: Node, ops: Iterable[str]) -> Node | None:
        """Let a kernel take the one node that reads its output, where it is one of `ops`; returns that node."""
        follower = self.sole_consumer(node.ends[0]) if len(node.ends) == 1 else None
        if follower is None or follower.op not in ops or follower.quantized or follower.index in self.absorbed:
            return None
        self.absorbed.add(follower.index)
        node.ends = list(follower.outputs)
        return follower

    def elements(self, node: Node) -> int:
        """The values that a node computes."""
        return sum([self.types[name].elements for name in node.outputs])

    def emit(
        self, name: str, kind: str, work: Mapping[str, float], *, dims: Iterable[float], macs: int = 0, calls: int = 1
    ) -> None:
        """Add a kernel that ONNX Runtime starts `calls` times, with its amounts of `work` that are not 0."""
        features = {"calls": float(calls)}
        for feature, amount in work.items():
            if amount:
                features[feature] = amount
        self.kernels.append(
            KernelWork(name, kind, macs, features, tuple([float(d) if d > 1e-3 else 1e-3 for d in dims]))
        )
