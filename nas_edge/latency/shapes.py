"""Shapes of every value in an ONNX graph, quickly: the weights' bytes are left out of the inference."""

from __future__ import annotations

import math
from typing import NamedTuple

import onnx
from onnx import shape_inference

from nas_edge.errors import ModelError
from nas_edge.latency.folding import fold_integers

# Larger constants do not decide a shape; onnx's inference would copy them.
SMALL = 256
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


def infer_shapes(model: onnx.ModelProto, batch: int) -> dict[str, TypedShape]:
    """The shape of each value that has one: inputs, weights, and what the nodes compute.

    A dynamic first axis of an input is `batch`, other dynamic axes are 1. Raises `ModelError` for a graph that
    contradicts itself.
    """
    skeleton = _skeleton(model, batch)
    for _ in range(MAX_PASSES):
        types = _inferred(skeleton)
        unknown = any(name and name not in types for node in skeleton.graph.node for name in node.output)
        if not unknown or not fold_integers(skeleton.graph, {name: t.shape for name, t in types.items()}):
            break
    constants = (*skeleton.graph.initializer, *model.graph.initializer)
    return types | {w.name: TypedShape(tuple(w.dims), BYTES.get(w.data_type, 4)) for w in constants}


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


def _skeleton(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The graph with fixed input shapes, no stale inner shapes, and large weights as inputs without values."""
    skeleton = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    skeleton.opset_import.extend(model.opset_import)
    skeleton.functions.extend(model.functions)
    graph = skeleton.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    weights = {w.name for w in model.graph.initializer}
    for value in model.graph.input:
        if value.name in weights:
            continue
        fixed = graph.input.add()
        fixed.CopyFrom(value)
        for axis, dim in enumerate(fixed.type.tensor_type.shape.dim):
            if dim.dim_value <= 0:
                dim.dim_value = batch if axis == 0 else 1
    for weight in model.graph.initializer:
        if math.prod(weight.dims) <= SMALL:
            graph.initializer.add().CopyFrom(weight)
        else:
            large = graph.input.add(name=weight.name).type.tensor_type  # onnx.helper takes ten times as long
            large.elem_type = weight.data_type
            for side in weight.dims:
                large.shape.dim.add(dim_value=side)
    for output in model.graph.output:
        bare = graph.output.add()
        bare.CopyFrom(output)
        bare.type.tensor_type.ClearField("shape")
    return skeleton
