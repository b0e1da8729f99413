"""Cross-layer equalization: channels between two layers get scales that both layers' weights can share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx

from .graphs import Array, attribute, channel_axis, initializers, readers, set_values, values_of

LAYERS = frozenset({"Conv", "Gemm"})
# f(s x) = s f(x) for s > 0, each channel for itself.
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout"})
ROUNDS, CONVERGED = 50, 1e-3
BOUNDED = 100.0  # no channel is scaled by more, either way: beyond, biases and activations lose what weights gain


@dataclass(frozen=True)
class Pair:
    """Two layers, the second of which alone reads what the first gives, through homogeneous operators."""

    first: onnx.NodeProto
    second: onnx.NodeProto


def equalize(model: onnx.ModelProto) -> str:
    """Scale the weights of all pairs of layers in place, leave the function as it is, and say what was done.

    With r1 and r2 the largest magnitudes that channel i of the map between two layers has in the weights of the first
    and of the second, s = sqrt(r1 r2) / r2 divides the first's weights and bias and multiplies the second's: both then
    reach sqrt(r1 r2) (Nagel et al. 2019, section 4.1, equation 11). Pairs that share a layer are scaled in turn until
    nothing changes. A bounded activation between (ReLU6) or a curved one (hard-swish) would not let the factor pass:
    such pairs are left alone.
    """
    pairs, others = _pairs(model.graph)
    constants = initializers(model.graph)
    if not pairs:
        return "no two layers to equalize" + _between(others)
    weights = {name: values_of(constants[name]) for pair in pairs for name in _constants_of(pair)}
    applied = {pair.first.name: np.ones(1, np.float32) for pair in pairs}
    for _ in range(ROUNDS):
        largest = 1.0
        for pair in pairs:
            scale = _scale(pair, weights, applied[pair.first.name])
            applied[pair.first.name] = applied[pair.first.name] * scale
            _apply(pair, weights, scale)
            largest = max(largest, float(np.maximum(scale, 1 / scale).max()))
        if largest < 1 + CONVERGED:
            break
    for name, values in weights.items():
        set_values(constants[name], values)
    return f"equalized {len(pairs)} pairs of layers" + _between(others)


def _between(others: Counter[str]) -> str:
    left = ", ".join(f"{count} with {op}" for op, count in sorted(others.items()))
    return f" (left alone: {left} between)" if left else ""


def _pairs(graph: onnx.GraphProto) -> tuple[list[Pair], Counter[str]]:
    """The pairs, and how often which activation stands between two layers that are none."""
    taken, constants, kinds = readers(graph), initializers(graph), _known_shapes(graph)
    outputs = {v.name for v in graph.output}
    pairs, others = [], Counter[str]()
    for first in graph.node:
        if not _is_layer(first, constants):
            continue
        through: list[str] = []
        name = first.output[0]
        while name not in outputs and len(taken.get(name, [])) == 1:
            node = taken[name][0]
            if _is_layer(node, constants) and node.input[0] == name:
                blocking = [op for op in through if op not in HOMOGENEOUS]
                if blocking:
                    others[blocking[0]] += 1
                else:
                    pairs.append(Pair(first, node))
                break
            if len(node.output) != 1 or not _keeps_channels(node, kinds):
                break
            through.append("Identity" if node.op_type == "Flatten" else node.op_type)
            name = node.output[0]
    return pairs, others


def _is_layer(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    return node.op_type in LAYERS and constants.keys() >= set(node.input[1:])


def _keeps_channels(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> bool:
    """Whether a node works on each channel for itself, and leaves it at its place."""
    if node.op_type == "Flatten":
        shape = shapes.get(node.input[0], [])
        return attribute(node, "axis", 1) == 1 and len(shape) == 4 and shape[2:] == [1, 1]
    return node.op_type in HOMOGENEOUS | {"Clip", "HardSwish", "HardSigmoid", "Sigmoid"}


def _known_shapes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Shapes as far as they are inferred; 0 where a side is not known."""
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}


def _constants_of(pair: Pair) -> list[str]:
    return [*pair.first.input[1:], pair.second.input[1]]


def _scale(pair: Pair, weights: dict[str, Array], applied: Array) -> Array:
    """What to divide each channel of the first layer by; 1 where either layer has nothing but zeros for it."""
    r1 = _output_ranges(pair.first, weights[pair.first.input[1]])
    r2 = _input_ranges(pair.second, weights[pair.second.input[1]])
    usable = (r1 > 0) & (r2 > 0)
    scale = np.sqrt(np.where(usable, r1, 1) / np.where(usable, r2, 1))
    return np.asarray(np.clip(applied * scale, 1 / BOUNDED, BOUNDED) / applied, np.float32)


def _apply(pair: Pair, weights: dict[str, Array], scale: Array) -> None:
    """Divide what the first layer gives, and multiply what the second makes of it: the arrays, in place."""
    first, second = weights[pair.first.input[1]], weights[pair.second.input[1]]
    axis = channel_axis(pair.first, first.ndim)
    first /= scale.reshape([-1 if i == axis else 1 for i in range(first.ndim)])
    for bias in pair.first.input[2:]:
        weights[bias] /= scale
    if pair.second.op_type == "Gemm":
        second *= scale if channel_axis(pair.second, 2) == 0 else scale[:, None]
    else:
        groups = attribute(pair.second, "group", 1)
        each = np.repeat(scale.reshape(groups, -1), len(second) // groups, axis=0)  # [outputs, inputs of a group]
        second *= each.reshape(*each.shape, *[1] * (second.ndim - 2))


def _output_ranges(node: onnx.NodeProto, weight: Array) -> Array:
    """The largest magnitude of each output channel, `[outputs]`."""
    axis = channel_axis(node, weight.ndim)
    return np.asarray(np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis)))


def _input_ranges(node: onnx.NodeProto, weight: Array) -> Array:
    """The largest magnitude of each input channel, `[inputs]`."""
    if node.op_type == "Gemm":
        return np.asarray(np.abs(weight).max(axis=channel_axis(node, 2)))
    groups = attribute(node, "group", 1)
    largest = np.abs(weight).max(axis=tuple(range(2, weight.ndim)))
    return np.asarray(largest.reshape(groups, -1, weight.shape[1]).max(1).reshape(-1))
