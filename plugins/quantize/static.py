"""Which operators become integer, and the rewriting of the graph by ONNX Runtime's quantizer."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorData, TensorsData

from nas_edge import InvalidCandidate

from .calibrate import Array, activation_ranges
from .compact import compact

WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Other operators with integer kernels, or that only pass integers on.
FOLLOWING = {"Add", "Mul", "GlobalAveragePool", "Relu", "Clip"}
FOLLOWING |= {"MaxPool", "AveragePool", "Concat", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"}
NO_ARITHMETIC = {"QuantizeLinear", "DequantizeLinear", "Constant", "Shape", "Gather", "Slice", "Cast", "Identity"}
INFERRED = ("onnx.infer", "onnxruntime.quant")  # how ONNX Runtime's quantizer knows that shapes are there


def quantize_model(model: onnx.ModelProto, batches: Iterable[Array], percentile: float) -> tuple[onnx.ModelProto, str]:
    """An int8 copy, and what was quantized in words.

    `batches` are float32 images in 0..1 `[n, channels, height, width]`. The copy takes and gives what the model does,
    at any batch size. Raises `InvalidCandidate` where no layer can be quantized.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    nodes = quantizable(inferred.graph)
    if not nodes:
        raise InvalidCandidate("quantize: the ONNX file holds no layer with constant weights; leave quantize out")
    ranges = activation_ranges(inferred, _activations(inferred.graph, nodes), batches, percentile)
    quantized = _rewrite(inferred, nodes, ranges)
    _restore(quantized, model)
    compact(quantized)
    return quantized, _report(nodes, ranges, quantized)


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


def _activations(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> list[onnx.ValueInfoProto]:
    """The float tensors that these nodes take or give, in the graph's order, each once."""
    known = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
    weights = {i.name for i in graph.initializer}
    names = dict.fromkeys(name for node in nodes for name in (*node.input, *node.output))
    return [
        known[name]
        for name in names
        if name in known and name not in weights and known[name].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]


def _rewrite(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], ranges: dict[str, tuple[np.float32, np.float32]]
) -> onnx.ModelProto:
    """The model with QuantizeLinear and DequantizeLinear around the nodes, and integer weights."""
    for index, node in enumerate(model.graph.node):  # the quantizer knows nodes by name
        node.name = node.name or f"{node.op_type}_{index}"
    onnx.helper.set_model_props(model, {**{p.key: p.value for p in model.metadata_props}, INFERRED[0]: INFERRED[1]})
    data = {name: TensorData(lowest=low, highest=high) for name, (low, high) in ranges.items()}
    with _quiet():
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=[n.name for n in nodes],
            nodes_to_exclude=[],
            op_types_to_quantize=sorted(WEIGHTED | FOLLOWING),
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
        quantized: onnx.ModelProto = quantizer.quantize_model()
        quantizer.model.topological_sort()
    return quantized


def _report(
    nodes: list[onnx.NodeProto], ranges: dict[str, tuple[np.float32, np.float32]], quantized: onnx.ModelProto
) -> str:
    layers = sum(n.op_type in WEIGHTED for n in nodes)
    others = sum(n.op_type not in WEIGHTED and n.output[0] in ranges for n in nodes)
    left = sorted({n.op_type for n in quantized.graph.node} - WEIGHTED - FOLLOWING - NO_ARITHMETIC)
    report = f"quantized {layers} layers and {others} other operators to int8"
    return f"{report}; in float: {', '.join(left)}" if left else report


def _restore(quantized: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """What the model says of itself stays as it was; the shapes inside, needed for the rewriting alone, go."""
    del quantized.graph.value_info[:]
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(original.metadata_props)
    quantized.producer_name, quantized.producer_version = original.producer_name, original.producer_version


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
