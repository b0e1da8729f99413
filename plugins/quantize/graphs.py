"""What the parts of this technique share: how they read a graph, copy it, and change it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[np.float32]
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
BIASED = frozenset({"Conv", "ConvTranspose", "Gemm"})
# Other operators with integer kernels, or that only pass integers on.
FOLLOWING = frozenset(
    {"Add", "Mul", "GlobalAveragePool", "Relu", "Clip", "MaxPool", "AveragePool", "Concat"}
    | {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"}
)
INT4_OPSET, INT4_IR = 21, 10  # the first with 4-bit integers and 16-bit QuantizeLinear


def prepared(model: onnx.ModelProto, *, opset: int = 0, biases: bool = False) -> onnx.ModelProto:
    """A copy to work on: of at least that opset, nodes named, no layers that share weights, shapes inferred.

    With `biases` each layer has one.
    """
    if opset_of(model) < opset:
        copy = onnx.version_converter.convert_version(model, opset)
        copy.ir_version = max(model.ir_version, INT4_IR)
    else:
        copy = copied(model)
    _look_through_identities(copy.graph)
    for index, node in enumerate(copy.graph.node):  # layers are known by name
        node.name = node.name or f"{node.op_type}_{index}"
    if biases:
        _add_biases(copy.graph)
    own_weights(copy.graph)
    return onnx.shape_inference.infer_shapes(copy)


def _look_through_identities(graph: onnx.GraphProto) -> None:
    """Let nodes read a constant itself where the exporter, which stores equal ones once, has them read its copy."""
    outputs = {v.name for v in graph.output}
    source = {i.name: i.name for i in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in source and node.output[0] not in outputs:
            source[node.output[0]] = source[node.input[0]]
            graph.node.remove(node)
        else:
            node.input[:] = [source.get(name, name) for name in node.input]


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def _add_biases(graph: onnx.GraphProto) -> None:
    """A layer without a bias gets one of zeros: what is corrected needs a place to be."""
    weights = {i.name: i for i in graph.initializer}
    for node in graph.node:
        if node.op_type in BIASED and len(node.input) == 2 and node.input[1] in weights:
            bias = np.zeros(output_channels(node, list(weights[node.input[1]].dims)), np.float32)
            node.input.append(f"{node.name}.added_bias")
            graph.initializer.append(numpy_helper.from_array(bias, node.input[2]))


def quantizable(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes to quantize: from the first layer with weights on, so that the preprocessing before it stays exact.

    Products of two activations (self-attention) and sums and products with constants stay in float: their error is
    large against the little time that they take.
    """
    constants = {i.name for i in graph.initializer}
    constants |= {n.output[0] for n in graph.node if n.op_type == "Constant"}
    after_weights: set[str] = set()
    chosen = []
    for node in graph.node:  # in topological order, as ONNX demands
        weighted = node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in constants
        if weighted or after_weights.intersection(node.input):
            after_weights.update(node.output)
        of_activations = not (node.op_type in {"Add", "Mul"} and constants.intersection(node.input))
        follows = node.op_type in FOLLOWING and of_activations and after_weights.intersection(node.input)
        if weighted or follows:
            chosen.append(node)
    return chosen


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, or its default."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def channel_axis(node: onnx.NodeProto, rank: int) -> int:
    """The axis of a layer's weight that is its output channels."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return rank - 1


def output_channels(node: onnx.NodeProto, weight_shape: list[int]) -> int:
    groups = attribute(node, "group", 1) if node.op_type == "ConvTranspose" else 1
    return int(weight_shape[channel_axis(node, len(weight_shape))] * groups)


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    return {i.name: i for i in graph.initializer}


def values_of(tensor: onnx.TensorProto) -> Array:
    """A float constant as an array of its own."""
    return numpy_helper.to_array(tensor).astype(np.float32)


def set_values(tensor: onnx.TensorProto, values: npt.NDArray[Any]) -> None:
    """Replace a constant's content, and its type where that differs; it keeps its name."""
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def layers_among(graph: onnx.GraphProto, names: Collection[str]) -> list[onnx.NodeProto]:
    """The layers with weights of these names, in the graph's order."""
    return [n for n in graph.node if n.name in names and n.op_type in WEIGHTED]


def own_weights(graph: onnx.GraphProto) -> None:
    """Give each layer a weight and a bias that no other reads, so that they can be changed for it alone: in place."""
    constants, seen = initializers(graph), set[str]()
    for node in graph.node:
        for index in (1, 2) if node.op_type in WEIGHTED else ():
            name = node.input[index] if index < len(node.input) else ""
            if name in constants and name in seen:
                own = graph.initializer.add()
                own.CopyFrom(constants[name])
                own.name = node.input[index] = f"{node.name}.{index}"
            seen.add(name)


def replace_nodes(graph: onnx.GraphProto, made: dict[str, list[onnx.NodeProto]]) -> None:
    """Put these nodes in the place of those of the given names: in place."""
    nodes = [new for node in graph.node for new in made.get(node.name, [node])]
    kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that take each tensor."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def add_constants(graph: onnx.GraphProto, values: Iterable[tuple[str, npt.NDArray[Any]]]) -> None:
    graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values)


def use_domain(model: onnx.ModelProto, domain: str, version: int) -> None:
    """Declare another domain's operators, once."""
    if all(o.domain != domain for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(domain, version))
