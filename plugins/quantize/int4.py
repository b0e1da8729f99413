"""Weights in 4-bit blocks, activations in float."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from .graphs import (
    add_constants,
    attribute,
    copied,
    initializers,
    layers_among,
    replace_nodes,
    use_domain,
    values_of,
)
from .weights import in_blocks, packed, packed_int4

if TYPE_CHECKING:
    from . import QuantizeConfig

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Int4:
    """Rewrites layers so that their weights are stored in 4 bits, with a float scale and a 4-bit zero point for each
    block of a row: `w = scale (value - zero)` (in blocks: Dettmers and Zettlemoyer 2023).

    A row is all that one output channel multiplies. Matrix products become MatMulNBits, which unpacks a block when it
    computes with it. Convolutions, for which ONNX Runtime has no such kernel, are unpacked once, on loading.
    """

    config: QuantizeConfig

    def rewrite(self, model: onnx.ModelProto, nodes: Collection[str]) -> onnx.ModelProto:
        """A copy with the weights of the layers of these names in 4 bits."""
        copy = copied(model)
        constants = initializers(copy.graph)
        made = {}
        for node in layers_among(copy.graph, nodes):
            if not constants.keys() >= set(node.input[1:]):
                continue
            if node.op_type in {"Gemm", "MatMul"}:
                made[node.name] = [self._product(copy.graph, node, constants)]
                use_domain(copy, MICROSOFT, 1)
            else:
                made[node.name] = self._unpacked(copy.graph, node, constants)
        replace_nodes(copy.graph, made)
        return copy

    def _product(
        self, graph: onnx.GraphProto, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
    ) -> onnx.NodeProto:
        weight = values_of(constants[node.input[1]]) * np.float32(attribute(node, "alpha", 1.0))
        if not attribute(node, "transB", 0):
            weight = weight.T
        blocks = in_blocks(weight, self.config.block_size)
        stored: dict[str, npt.NDArray[Any]] = {
            "weight": packed(blocks.values),
            "scale": blocks.scales,
            "zero": packed(blocks.zeros),
        }
        inputs = [node.input[0], *(f"{node.name}.{part}" for part in stored)]
        if len(node.input) > 2:
            bias = values_of(constants[node.input[2]]) * np.float32(attribute(node, "beta", 1.0))
            stored["bias"] = np.broadcast_to(bias.reshape(-1), len(weight))
            inputs += ["", f"{node.name}.bias"]
        add_constants(graph, ((f"{node.name}.{part}", value) for part, value in stored.items()))
        sizes = {"K": weight.shape[1], "N": weight.shape[0], "bits": 4, "block_size": self.config.block_size}
        return helper.make_node("MatMulNBits", inputs, list(node.output), node.name, domain=MICROSOFT, **sizes)

    def _unpacked(
        self, graph: onnx.GraphProto, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
    ) -> list[onnx.NodeProto]:
        """The layer behind the operators that make its weight, (value - zero) scale in the layer's shape.

        Not DequantizeLinear: ONNX Runtime would run it anew for each image, and not prepare the weight for its kernel.
        """
        weight = values_of(constants[node.input[1]])
        rows = weight.reshape(len(weight), -1)
        columns = rows.shape[1]
        size = -(-columns // -(-columns // self.config.block_size))  # even blocks: hardly any padding is stored
        blocks = in_blocks(rows, size)
        steps = _Steps(graph, node.name)
        graph.initializer.append(packed_int4(f"{node.name}.values", blocks.values))
        graph.initializer.append(packed_int4(f"{node.name}.zeros", blocks.zeros[..., None]))
        values = steps.add("Cast", f"{node.name}.values", to=TensorProto.FLOAT)
        zeros = steps.add("Cast", f"{node.name}.zeros", to=TensorProto.FLOAT)
        exact = steps.add("Mul", steps.add("Sub", values, zeros), steps.constant(blocks.scales[..., None]))
        if blocks.values[0].size > columns:
            flat = steps.add("Reshape", exact, steps.constant([len(rows), -1]))
            exact = steps.add("Slice", flat, *(steps.constant([bound]) for bound in (0, columns, 1)))
        layer = onnx.NodeProto()
        layer.CopyFrom(node)
        layer.input[1] = steps.add("Reshape", exact, steps.constant(weight.shape))
        return [*steps.nodes, layer]

    def how_it_runs(self) -> str:
        return "matrix products by MatMulNBits, convolutions in float with weights unpacked on loading"


class _Steps:
    """Nodes one after the other, and the constants they need."""

    def __init__(self, graph: onnx.GraphProto, owner: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._graph, self._owner, self._count = graph, owner, 0

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node; gives the name of its output."""
        name = self._name()
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, value: npt.ArrayLike) -> str:
        """A constant; gives its name."""
        name = self._name()
        add_constants(self._graph, [(name, np.asarray(value))])
        return name

    def _name(self) -> str:
        self._count += 1
        return f"{self._owner}.step{self._count}"
