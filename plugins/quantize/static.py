"""Static schemes: the rewriting of the graph by ONNX Runtime's quantizer, with ranges and weight grids of our own."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorData, TensorsData

from .calibrate import activation_ranges
from .graphs import FOLLOWING, WEIGHTED, Array, channel_axis, copied, initializers, layers_among, values_of
from .ranges import Range
from .weights import grid_scales, store_packed

if TYPE_CHECKING:
    from . import QuantizeConfig

INFERRED = ("onnx.infer", "onnxruntime.quant")  # how ONNX Runtime's quantizer knows that shapes are there
TYPES = {
    (8, "unsigned"): QuantType.QUInt8,
    (8, "signed"): QuantType.QInt8,
    (16, "unsigned"): QuantType.QUInt16,
    (16, "signed"): QuantType.QInt16,
}


@dataclass(frozen=True)
class Static:
    """Rewrites a graph with QuantizeLinear and DequantizeLinear around its nodes, and integer weights and biases.

    Activations: `q = clip(round(x / s) + z)` in 8 bits or 16, with one s and z a tensor, from its range: `s = (max -
    min) / (2^bits - 1)`, and 0 is exact (Jacob et al. 2018, equation 1 and section 3.1). Signed codes are the unsigned
    ones less 128 (or 32768). Weights: z = 0, and one s an output channel `[out]` or a tensor (Krishnamoorthi 2018; see
    `grid_scales`). Biases: 32 bits, with the product of both scales.
    """

    config: QuantizeConfig
    ranges: dict[str, Range]

    @classmethod
    def calibrated(
        cls, model: onnx.ModelProto, config: QuantizeConfig, batches: Iterable[Array], nodes: list[str]
    ) -> Static:
        """With the ranges that the tensors around these nodes have on the images."""
        tensors = _activations(model.graph, nodes)
        return cls(config, activation_ranges(model, tensors, batches, config))

    @property
    def activation_bits(self) -> int:
        return 16 if self.config.scheme == "int16" else 8

    def rewrite(self, model: onnx.ModelProto, nodes: Collection[str]) -> onnx.ModelProto:
        """A copy with the nodes of these names quantized."""
        copy = copied(model)
        onnx.helper.set_model_props(copy, {**{p.key: p.value for p in copy.metadata_props}, INFERRED[0]: INFERRED[1]})
        data = {name: TensorData(lowest=low, highest=high) for name, (low, high) in self.ranges.items()}
        options: dict[str, Any] = {"OpTypesToExcludeOutputQuantization": ["Gemm"]}
        if self.config.weight_bits < 8:
            options["TensorQuantOverrides"] = _coarse_grids(copy.graph, nodes, self.config)
        with _quiet():
            quantizer = QDQQuantizer(
                copy,
                per_channel=self.config.granularity == "channel",
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=TYPES[self.activation_bits, self.config.activations],
                tensors_range=TensorsData(CalibrationMethod.MinMax, data),
                nodes_to_quantize=list(nodes),
                nodes_to_exclude=[],
                op_types_to_quantize=sorted(WEIGHTED | FOLLOWING),
                extra_options=options,
            )
            quantized: onnx.ModelProto = quantizer.quantize_model()
            quantizer.model.topological_sort()
        if self.config.weight_bits <= 4:
            store_packed(quantized.graph, _integer_weights(quantized.graph, nodes))
        return quantized

    def how_it_runs(self) -> str:
        if self.activation_bits == 16:
            return "ONNX Runtime's CPU kernels compute it in float, between the roundings"
        stored = ", stored in 4 bits and unpacked on loading" if self.config.weight_bits <= 4 else ""
        return f"{self.config.weight_bits}-bit weights{stored}" if self.config.weight_bits < 8 else ""


def _activations(graph: onnx.GraphProto, nodes: Collection[str]) -> list[onnx.ValueInfoProto]:
    """The float tensors that these nodes take or give, in the graph's order, each once."""
    known = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
    weights = {i.name for i in graph.initializer}
    chosen = [node for node in graph.node if node.name in nodes]
    names = dict.fromkeys(name for node in chosen for name in (*node.input, *node.output))
    return [
        known[name]
        for name in names
        if name in known and name not in weights and known[name].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]


def _coarse_grids(
    graph: onnx.GraphProto, nodes: Collection[str], config: QuantizeConfig
) -> dict[str, list[dict[str, Any]]]:
    """The scales of grids of less than 8 bits, as the quantizer takes them: its own are for all of int8."""
    constants, grids = initializers(graph), {}
    for node in layers_among(graph, nodes):
        weight = constants.get(node.input[1])
        if weight is None:
            continue
        values = values_of(weight)
        axis = channel_axis(node, values.ndim) if config.granularity == "channel" else None
        scales = grid_scales(values, config.weight_bits, axis)
        each = {} if axis is None else {"axis": axis}
        grids[weight.name] = [{**each, "scale": scale, "zero_point": 0} for scale in scales.reshape(-1)]
    return grids


def _integer_weights(graph: onnx.GraphProto, nodes: Collection[str]) -> set[str]:
    """The 8-bit constants that the quantized layers' weights are dequantized from."""
    constants, makers = initializers(graph), {n.output[0]: n for n in graph.node}
    made = [makers[n.input[1]] for n in layers_among(graph, nodes) if n.input[1] in makers]
    return {n.input[0] for n in made if n.op_type == "DequantizeLinear" and n.input[0] in constants}


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer speaks to the root logger, and would configure logging for the whole process where nobody has."""

    def elsewhere(record: logging.LogRecord) -> bool:
        return "quantiz" not in record.pathname

    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    root.addFilter(elsewhere)
    try:
        yield
    finally:
        root.removeFilter(elsewhere)
        root.removeHandler(silent)
