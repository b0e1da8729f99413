"""Bias correction: takes back by how much quantization shifts the mean output of each layer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from .calibrate import run, session
from .graphs import BIASED, Array, attribute, copied, initializers, set_values, values_of

CORRECTION_IMAGES = 128


def correct_biases(model: onnx.ModelProto, quantized: onnx.ModelProto, batches: Iterable[Array]) -> onnx.ModelProto:
    """A copy of the float model whose biases make up for the quantization of `quantized`.

    For each layer with a bias, in the graph's order, b += E[y] - E[y'] for each output channel, with y the layer's
    output in the float model and y' in the quantized one whose earlier layers are corrected already, over the images
    and all positions (Nagel et al. 2019, section 4.2 and appendix D). In `quantized`, the node with a layer's name
    gives the layer's output and has the bias as its last input.
    """
    corrected = copied(model)
    constants = initializers(corrected.graph)
    biases = {n.name: constants[n.input[2]] for n in corrected.graph.node if _has_bias(n, constants)}
    if not biases:
        return corrected
    outputs = {n.name: n.output[0] for n in model.graph.node if n.name in biases}
    wanted = _means(_observing(model, list(outputs.values())), list(outputs.values()), batches, {})

    simulated = copied(quantized)
    feeds = _make_inputs(simulated, biases)
    made = {n.name: n.output[0] for n in simulated.graph.node if n.name in biases}
    runner = _observing(simulated, list(made.values()))
    for name, bias in biases.items():
        found = _means(runner, [made[name]], batches, feeds)[made[name]]
        shift = wanted[outputs[name]] - found
        feeds[_fed(name)] = feeds[_fed(name)] + shift.reshape(feeds[_fed(name)].shape)
        set_values(bias, feeds[_fed(name)].reshape(bias.dims))
    return corrected


def _has_bias(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    constant = node.op_type in BIASED and len(node.input) > 2 and constants.keys() >= set(node.input[1:])
    return constant and attribute(node, "beta", 1.0) == 1


def _fed(layer: str) -> str:
    return f"{layer}.fed"


def _make_inputs(model: onnx.ModelProto, biases: dict[str, onnx.TensorProto]) -> dict[str, Array]:
    """Make the layers' biases inputs of the model, in place, and give what to feed for now."""
    constants = initializers(model.graph)
    feeds = {}
    for node in model.graph.node:
        if node.name not in biases:
            continue
        last = len(node.input) - 1
        stored = constants.get(node.input[last], biases[node.name])  # else dequantized: in the bias's own shape
        feeds[_fed(node.name)] = values_of(biases[node.name]).reshape(stored.dims)
        node.input[last] = _fed(node.name)
        model.graph.input.append(helper.make_tensor_value_info(_fed(node.name), TensorProto.FLOAT, stored.dims))
    return feeds


def _observing(model: onnx.ModelProto, names: list[str]) -> onnxruntime.InferenceSession:
    return session(model, [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names])


def _means(
    runner: onnxruntime.InferenceSession, names: list[str], batches: Iterable[Array], feeds: dict[str, Array]
) -> dict[str, Array]:
    """The mean of each channel, `[channels]`, of tensors `[n, channels, ...]`."""
    sums = {name: np.zeros(1) for name in names}
    counts = dict.fromkeys(names, 0)
    for batch in batches:
        for name, y in zip(names, run(runner, names, batch, feeds), strict=True):
            sums[name] = sums[name] + y.sum(axis=(0, *range(2, y.ndim)), dtype=np.float64)
            counts[name] += y.size // y.shape[1]
    return {name: (sums[name] / counts[name]).astype(np.float32) for name in names}
