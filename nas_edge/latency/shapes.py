"""Shapes of every value in an ONNX graph, quickly: the weights' bytes are left out of the inference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import onnx
from onnx import shape_inference

from nas_edge.errors import ModelError
from nas_edge.latency.folding import fold_integers

# Values that can decide a shape: integers (a new shape, axes) and a few factors (of a resize).
INTEGERS = frozenset((onnx.TensorProto.INT64, onnx.TensorProto.INT32))
SMALL_INTEGERS, FACTORS = 256, 8
QUANTIZERS = {"QuantizeLinear": 1, "DequantizeLinear": 4}  # bytes of an element of their output
MAX_PASSES = 64  # each goes on past one more reshape by a computed size
BYTES = {
    onnx.TensorProto.FLOAT: 4,
    onnx.TensorProto.UINT8: 1,
    onnx.TensorProto.INT8: 1,
    onnx.TensorProto.UINT16: 2,
    onnx.TensorProto.INT16: 2,
    onnx.TensorProto.INT32: 4,
    onnx.TensorProto.INT64: 8,
    onnx.TensorProto.BOOL: 1,
    onnx.TensorProto.FLOAT16: 2,
    onnx.TensorProto.BFLOAT16: 2,
    onnx.TensorProto.DOUBLE: 8,
}


class TypedShape(NamedTuple):
    """A tensor's shape and the bytes of one element."""

    shape: tuple[int, ...]
    element_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.elements * self.element_bytes


class RawNode(NamedTuple):
    """A node as the graph says it: read once, for protobuf takes a while to hand out each field."""

    op: str
    inputs: list[str]
    outputs: list[str]
    proto: onnx.NodeProto


def raw_nodes(graph: onnx.GraphProto) -> list[RawNode]:
    return [RawNode(n.op_type, list(n.input), list(n.output), n) for n in graph.node]


def infer_shapes(model: onnx.ModelProto, batch: int, nodes: Sequence[RawNode] | None = None) -> dict[str, TypedShape]:
    """The shape of each value that has one: inputs, weights that an operator reads, and what the nodes compute.

    A dynamic first axis of an input is `batch`, other dynamic axes are 1. `nodes` are the graph's, where they were read
    before. Raises `ModelError` for a graph that contradicts itself.
    """
    nodes = raw_nodes(model.graph) if nodes is None else nodes
    # Quantizers are half of an int8 graph and change no shape, so the inference is spared them.
    quantized: dict[str, tuple[str, int]] = {}  # by output: where its shape is from, and its bytes an element
    for node in nodes:
        if node.op in QUANTIZERS:
            source = node.inputs[0]
            quantized[node.outputs[0]] = (quantized[source][0] if source in quantized else source, QUANTIZERS[node.op])
    kept = [node for node in nodes if node.op not in QUANTIZERS]
    skeleton = _skeleton(model, batch, kept, {name: source for name, (source, _) in quantized.items()})
    for _ in range(MAX_PASSES):
        types = _inferred(skeleton)
        known = types.keys() | {""}
        if all(known.issuperset(node.outputs) for node in kept):
            break
        if not fold_integers(skeleton.graph, {name: t.shape for name, t in types.items()}):
            break
    types |= {w.name: TypedShape(tuple(w.dims), BYTES.get(w.data_type, 4)) for w in skeleton.graph.initializer}
    for name, (source, element_bytes) in quantized.items():
        if source in types:
            types[name] = TypedShape(types[source].shape, element_bytes)
    return types


def _inferred(skeleton: onnx.ModelProto) -> dict[str, TypedShape]:
    try:
        inferred = shape_inference.infer_shapes(skeleton, strict_mode=True, data_prop=True)
    except (shape_inference.InferenceError, ValueError) as error:
        raise ModelError(f"not a sound ONNX graph: {' '.join(str(error).split())}") from None
    types = {}
    for values in (inferred.graph.input, inferred.graph.value_info, inferred.graph.output):
        for value in values:
            tensor = value.type.tensor_type
            sides = tuple([dim.dim_value for dim in tensor.shape.dim])  # 0 for a dynamic one
            if all(sides) and tensor.HasField("shape"):
                types[value.name] = TypedShape(sides, BYTES.get(tensor.elem_type, 4))
    return types


def _skeleton(model: onnx.ModelProto, batch: int, nodes: Sequence[RawNode], same: Mapping[str, str]) -> onnx.ModelProto:
    """The graph of some nodes, which read for a value the `same` one; with fixed input shapes, no stale inner shapes,
    and weights that are nothing but inputs of a shape."""
    skeleton = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    skeleton.opset_import.extend(model.opset_import)
    skeleton.functions.extend(model.functions)
    graph = skeleton.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(node.proto for node in nodes)
    read: set[str] = set()
    for node, copy in zip(nodes, graph.node, strict=True):
        inputs = [same.get(name, name) for name in node.inputs]
        if inputs != node.inputs:
            copy.input[:] = inputs
        read.update(inputs)
    weights = {w.name: w for w in model.graph.initializer}
    for value in model.graph.input:
        if value.name in weights:
            continue
        fixed = graph.input.add()
        fixed.CopyFrom(value)
        for axis, dim in enumerate(fixed.type.tensor_type.shape.dim):
            if dim.dim_value <= 0:
                dim.dim_value = batch if axis == 0 else 1
    for name in read & weights.keys():
        weight = weights[name]
        if math.prod(weight.dims) <= (SMALL_INTEGERS if weight.data_type in INTEGERS else FACTORS):
            graph.initializer.append(weight)
        else:
            large = graph.input.add(name=name).type.tensor_type  # onnx.helper takes ten times as long
            large.elem_type = weight.data_type
            for side in weight.dims:
                large.shape.dim.add(dim_value=side)
    for output in model.graph.output:
        if output.name not in same:
            graph.output.add().CopyFrom(output)
            graph.output[-1].type.tensor_type.ClearField("shape")
    return skeleton
