"""Shapes of every value in an ONNX graph, quickly: the weights' bytes are left out of the inference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import onnx
from onnx import shape_inference

from nas_edge.errors import ModelError
from nas_edge.latency.folding import fold_integers

# Larger constants do not decide a shape; onnx's inference would copy them.
SMALL = 256
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


def constant_shapes(model: onnx.ModelProto) -> dict[str, TypedShape]:
    """The shapes of a graph's weights and other constants, which say theirs themselves."""
    return {w.name: TypedShape(tuple(w.dims), BYTES.get(w.data_type, 4)) for w in model.graph.initializer}


def infer_shapes(
    model: onnx.ModelProto, batch: int, constants: Mapping[str, TypedShape] | None = None
) -> dict[str, TypedShape]:
    """The shape of each value that has one: inputs, weights, and what the nodes compute.

    A dynamic first axis of an input is `batch`, other dynamic axes are 1. Raises `ModelError` for a graph that
    contradicts itself.
    """
    constants = constant_shapes(model) if constants is None else constants
    quantized = _quantized(model)
    skeleton = _skeleton(model, batch, constants, quantized)
    for _ in range(MAX_PASSES):
        types = _inferred(skeleton)
        unknown = any(name and name not in types for node in skeleton.graph.node for name in node.output)
        if not unknown or not fold_integers(skeleton.graph, {name: t.shape for name, t in types.items()}):
            break
    folded = (w for w in skeleton.graph.initializer if w.name not in constants)
    types |= {w.name: TypedShape(tuple(w.dims), BYTES.get(w.data_type, 4)) for w in folded} | dict(constants)
    for name, (source, element_bytes) in quantized.items():
        if source in types:
            types[name] = TypedShape(types[source].shape, element_bytes)
    return types


def _quantized(model: onnx.ModelProto) -> dict[str, tuple[str, int]]:
    """What each quantizer's output has its shape from, through other quantizers, and its bytes an element.

    They are half of an int8 graph and change no shape, so the inference is spared them.
    """
    found: dict[str, tuple[str, int]] = {}
    for node in model.graph.node:
        if node.op_type in QUANTIZERS:
            source = node.input[0]
            found[node.output[0]] = (found[source][0] if source in found else source, QUANTIZERS[node.op_type])
    return found


def _inferred(skeleton: onnx.ModelProto) -> dict[str, TypedShape]:
    try:
        inferred = shape_inference.infer_shapes(skeleton, data_prop=True)
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


def _skeleton(
    model: onnx.ModelProto, batch: int, constants: Mapping[str, TypedShape], quantized: Mapping[str, tuple[str, int]]
) -> onnx.ModelProto:
    """The graph with fixed input shapes, no stale inner shapes, no quantizers, and large weights without values."""
    skeleton = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    skeleton.opset_import.extend(model.opset_import)
    skeleton.functions.extend(model.functions)
    graph = skeleton.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(n for n in model.graph.node if n.op_type not in QUANTIZERS)
    if quantized:
        for node in graph.node:
            for place, name in enumerate(node.input):
                if name in quantized:
                    node.input[place] = quantized[name][0]
    for value in model.graph.input:
        if value.name in constants:
            continue
        fixed = graph.input.add()
        fixed.CopyFrom(value)
        for axis, dim in enumerate(fixed.type.tensor_type.shape.dim):
            if dim.dim_value <= 0:
                dim.dim_value = batch if axis == 0 else 1
    read = {name for node in graph.node for name in node.input}
    for weight in model.graph.initializer:
        if weight.name not in read:
            continue
        shape = constants[weight.name].shape
        if math.prod(shape) <= SMALL:
            graph.initializer.add().CopyFrom(weight)
        else:
            large = graph.input.add(name=weight.name).type.tensor_type  # onnx.helper takes ten times as long
            large.elem_type = weight.data_type
            for side in shape:
                large.shape.dim.add(dim_value=side)
    for output in model.graph.output:
        if output.name in quantized:
            continue
        bare = graph.output.add()
        bare.CopyFrom(output)
        bare.type.tensor_type.ClearField("shape")
    return skeleton
