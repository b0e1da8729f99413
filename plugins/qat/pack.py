"""The exported file made smaller: nothing stays in it that the rounding does anyway, and small weights are packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..compact import compact

Array = npt.NDArray[Any]
INT4 = (-8, 7)
INT4_OPSET = 21  # the first whose Cast and DequantizeLinear know int4
INT4_IR = 10
LEAST_PACKED = 64  # codes, of which half the bytes are worth a Cast


def shrink(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes the same.

    Weights whose codes fit in 4 bits are stored as int4 with a Cast to int8 behind them, which ONNX Runtime folds when
    it loads the file: DequantizeLinear of int4 itself would be computed in every run, before a convolution in float.
    """
    small = onnx.ModelProto()
    small.CopyFrom(model)
    _name_constants(small.graph)
    _drop_cuts(small.graph)
    weights = _small_weights(small.graph)
    packed = _at_least_opset(small, INT4_OPSET) if weights else None
    if packed is not None:
        _pack(packed.graph, weights)
        small = packed
    compact(small, model)
    for node in small.graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            node.ClearField("name")
    return small


def _name_constants(graph: onnx.GraphProto) -> None:
    """Make each constant an initializer that is read by its own name: the exporter shares equal ones by Identity."""
    initial = {i.name for i in graph.initializer}
    names: dict[str, str] = {}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in initial:
            names[node.output[0]] = node.input[0]
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            graph.initializer.append(node.attribute[0].t)
            graph.initializer[-1].name = node.output[0]
        else:
            node.input[:] = [names.get(name, name) for name in node.input]
            continue
        graph.node.remove(node)


def _drop_cuts(graph: onnx.GraphProto) -> None:
    """Remove each Relu and Clip whose one reader rounds to a grid that ends where it would cut."""
    values = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer if not i.dims}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in [n for n in graph.node if n.op_type in {"Relu", "Clip"}]:
        following = readers.get(node.output[0], [])
        if [n.op_type for n in following] == ["QuantizeLinear"] and _redundant(node, following[0], values):
            following[0].input[0] = node.input[0]
            graph.node.remove(node)


def _redundant(cut: onnx.NodeProto, quantizer: onnx.NodeProto, values: dict[str, Array]) -> bool:
    """Whether the grid lies within what Relu or Clip lets through."""
    needed = [*quantizer.input[1:3], *cut.input[1:3]]
    if len(quantizer.input) < 3 or not all(name in values for name in needed):
        return False
    scale, zero, *ends = (values[name] for name in needed)
    limits = np.iinfo(zero.dtype)
    lowest, highest = float(scale) * (limits.min - int(zero)), float(scale) * (limits.max - int(zero))
    low, high = (float(end) for end in ends) if len(ends) == 2 else (0.0, np.inf)
    return low <= lowest and highest <= high and (cut.op_type == "Relu" or len(ends) == 2)


def _small_weights(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """The int8 weights whose codes all fit in int4."""
    dequantized = {n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    weights = [i for i in graph.initializer if i.name in dequantized and i.data_type == onnx.TensorProto.INT8]
    values = {w.name: onnx.numpy_helper.to_array(w) for w in weights}
    large = [w for w in weights if values[w.name].size >= LEAST_PACKED]
    return [w for w in large if INT4[0] <= values[w.name].min() and values[w.name].max() <= INT4[1]]


def _at_least_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto | None:
    """The model, or one for this version of ONNX's operators; None where it holds one that cannot be converted."""
    if next(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}) >= opset:
        return model
    try:
        converted = onnx.version_converter.convert_version(model, opset)
    except onnx.version_converter.ConvertError:
        return None
    converted.ir_version = max(model.ir_version, INT4_IR)
    del converted.graph.value_info[:]
    del converted.metadata_props[:]
    converted.metadata_props.extend(model.metadata_props)
    return converted


def _pack(graph: onnx.GraphProto, weights: list[onnx.TensorProto]) -> None:
    """Store the weights as int4, and cast them back before anything reads them."""
    int4 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.INT4)
    codes = {w.name: onnx.numpy_helper.to_array(w) for w in weights}
    for initial in list(graph.initializer):
        if initial.name not in codes:
            continue
        name = f"{initial.name}_int4"
        cast = onnx.helper.make_node("Cast", [name], [initial.name], to=onnx.TensorProto.INT8)
        graph.initializer.append(onnx.numpy_helper.from_array(codes[initial.name].astype(int4), name))
        graph.initializer.remove(initial)
        graph.node.insert(0, cast)
