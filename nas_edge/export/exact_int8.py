"""Exact sums of 8-bit products in ONNX Runtime, on CPUs whose fastest kernels saturate them."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import onnx
from onnx import numpy_helper

from nas_edge import agent
from nas_edge.cpu import int8_saturates

SAFE = 64  # the largest 8-bit weight that no kernel saturates with
EIGHT_BITS = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
EXACT_INT8 = "session.x64quantprecision"  # "1": unsigned weights, for which the kernels are exact


@cache
def saturates_here() -> bool:
    """Whether this machine's CPU kernels may saturate."""
    sets = agent.instruction_sets(agent.read_cpuinfo())
    return int8_saturates({"architecture": platform.machine(), "instruction_sets": sets})


def needs_exact_sums(path: Path) -> bool:
    """Whether a file adds up products of 8-bit activations and of weights that are too large for kernels that
    saturate."""
    graph = onnx.load_model(path).graph
    types = {i.name: i.data_type for i in graph.initializer}
    if not any(
        node.op_type == "DynamicQuantizeLinear"
        or (node.op_type == "QuantizeLinear" and types.get(node.input[2]) in EIGHT_BITS)
        for node in graph.node
    ):
        return False
    weights = (numpy_helper.to_array(i) for i in graph.initializer if i.data_type == onnx.TensorProto.INT8)
    return any(weight.ndim > 1 and abs(weight.astype(int)).max(initial=0) > SAFE for weight in weights)


def own_constants(model: onnx.ModelProto | Path) -> onnx.ModelProto | Path:
    """A copy whose nodes share no 8-bit constant, nor what dequantizes one; the model itself where it has none.

    ONNX Runtime (1.31) makes an unsigned one for each reader, all of one name, and then refuses the model. Of a file,
    with the weights that lie beside it.
    """
    copy = onnx.load_model(model) if isinstance(model, Path) else onnx.ModelProto.FromString(model.SerializeToString())
    graph = copy.graph
    constants = {i.name: i for i in graph.initializer if i.data_type == onnx.TensorProto.INT8}
    if not constants:
        return model
    given = {v.name for v in graph.output}
    makers = {
        n.output[0]: n
        for n in graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in constants and n.output[0] not in given
    }
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] in makers:
            continue
        for index, name in enumerate(node.input):
            if name in makers:
                own = onnx.NodeProto.FromString(makers[name].SerializeToString())
                own.output[0] = node.input[index] = f"{name}.{len(nodes)}"
                nodes.append(own)
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(nodes)
    used: set[str] = set()
    for number, node in enumerate(graph.node):
        for index, name in enumerate(node.input):
            if name in used:
                tensor = graph.initializer.add()
                tensor.CopyFrom(constants[name])
                tensor.name = node.input[index] = f"{name}.{number}.{index}"
            elif name in constants:
                used.add(name)
    return copy
