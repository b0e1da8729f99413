"""Dynamic int8: the range of each activation is that of the batch at hand."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from .graphs import (
    add_constants,
    attribute,
    channel_axis,
    copied,
    initializers,
    layers_among,
    replace_nodes,
    values_of,
)
from .weights import grid_scales, store_packed, to_grid

if TYPE_CHECKING:
    from . import QuantizeConfig

LAYERS = {"Conv": "ConvInteger", "Gemm": "MatMulInteger", "MatMul": "MatMulInteger"}


@dataclass(frozen=True)
class Dynamic:
    """Rewrites layers into integer products of weights and of what DynamicQuantizeLinear makes of their input.

    With x the input in 0..255, s its scale and z its zero point at run time, and v the weights' scale an output
    channel `[out]` (or a tensor), a layer gives `s v sum((x - z) w) + bias`, the sum in 32-bit integers: Jacob et al.
    (2018), equations 1 to 4, with `s = (max x - min x) / 255` of the batch at hand, 0 among its values.
    """

    config: QuantizeConfig

    def rewrite(self, model: onnx.ModelProto, nodes: Collection[str]) -> onnx.ModelProto:
        """A copy with the layers of these names in integers. Its last node of each layer has the layer's name."""
        copy = copied(model)
        constants = initializers(copy.graph)
        seen: dict[str, list[str]] = {}
        made, weights = {}, set()
        for node in layers_among(copy.graph, nodes):
            if node.op_type in LAYERS and constants.keys() >= set(node.input[1:]):
                made[node.name] = [*_quantize_input(node.input[0], seen), *self._layer(copy.graph, node, constants)]
                weights.add(f"{node.name}.weight")
        replace_nodes(copy.graph, made)
        if self.config.weight_bits <= 4:
            store_packed(copy.graph, weights)
        return copy

    def _layer(
        self, graph: onnx.GraphProto, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
    ) -> list[onnx.NodeProto]:
        weight = values_of(constants[node.input[1]])
        axis = channel_axis(node, weight.ndim)
        if node.op_type == "Gemm":
            weight = weight * np.float32(attribute(node, "alpha", 1.0))
            weight, axis = (weight.T, 1) if axis == 0 else (weight, axis)
        per = axis if self.config.granularity == "channel" else None
        scales = grid_scales(weight, self.config.weight_bits, per)
        shape = (-1, 1, 1) if node.op_type == "Conv" else (-1,)
        name = node.name
        added = [(f"{name}.weight", to_grid(weight, scales, self.config.weight_bits, per))]
        add_constants(graph, [*added, (f"{name}.scale", scales.reshape(shape if scales.ndim else ()))])
        source = node.input[0]
        inputs = [f"{source}.dynamic", f"{name}.weight", f"{source}.dynamic_zero"]
        sums, floats, both = f"{name}.sums", f"{name}.floats", f"{name}.scales"
        product = helper.make_node(LAYERS[node.op_type], inputs, [sums], f"{name}.product")
        if node.op_type == "Conv":
            product.attribute.extend(node.attribute)
        bias = ""
        if len(node.input) > 2:
            bias = f"{name}.bias"
            shift = values_of(constants[node.input[2]]) * np.float32(attribute(node, "beta", 1.0))
            add_constants(graph, [(bias, shift.reshape(shape))])
        scaled = f"{name}.scaled" if bias else node.output[0]
        nodes = [
            product,
            helper.make_node("Cast", [sums], [floats], f"{name}.cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{source}.dynamic_scale", f"{name}.scale"], [both], f"{name}.scales"),
            helper.make_node("Mul", [floats, both], [scaled], f"{name}.scaled" if bias else name),
        ]
        return [*nodes, helper.make_node("Add", [scaled, bias], [node.output[0]], name)] if bias else nodes

    def how_it_runs(self) -> str:
        return "ranges found at run time"


def _quantize_input(name: str, seen: dict[str, list[str]]) -> list[onnx.NodeProto]:
    """The node that quantizes a tensor, once for all that take it."""
    if name in seen:
        return []
    seen[name] = [f"{name}.dynamic", f"{name}.dynamic_scale", f"{name}.dynamic_zero"]
    return [helper.make_node("DynamicQuantizeLinear", [name], seen[name], f"{name}.quantize")]
