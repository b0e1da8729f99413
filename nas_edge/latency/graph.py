"""From an ONNX graph to the kernels that ONNX Runtime runs for it, with the work that each one does.

ONNX Runtime fuses and re-lays-out a graph before it runs it. The walk here follows its rules on a CPU:

- a convolution takes the batch normalisation, addition and activation that follow it;
- float convolutions on x86 run on blocked channels (16 or 8 a block, the rest padded) where their channels are a
  multiple of 4, and on plain ones otherwise; a change of layout is a kernel of its own;
- quantize / dequantize pairs around an operator make it an int8 one, and int8 convolutions run channels-last.

What an operator costs is said by its handler in `operators.HANDLERS`; one without a handler is named in
`Work.unsupported`, and never counted as nothing.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import onnx

from nas_edge.cpu import WIDEST
from nas_edge.latency.operators import HANDLERS
from nas_edge.latency.walk import KernelWork, Node, Walk

INT64_BYTES = 8
# What these take beside their first input says how they work, and is no weight.
FIRST_ALONE = frozenset(("QuantizeLinear", "DequantizeLinear", "Clip", "Resize", "Upsample", "Pad"))

__all__ = ["KernelWork", "Work", "kernels_of", "parameter_count", "total_macs"]


@dataclass(frozen=True)
class Work:
    """All kernels of a network in their order, and the operators that nothing is known about."""

    kernels: tuple[KernelWork, ...]
    unsupported: tuple[str, ...]


def kernels_of(model: onnx.ModelProto, batch: int = 1, block: int = WIDEST) -> Work:
    """The kernels that ONNX Runtime runs for a model on a CPU whose float convolutions have so many channels a `block`.

    A dynamic first axis is `batch`, other dynamic axes are 1. Raises `ModelError` where the shapes contradict each
    other.
    """
    walk = Walk(model, batch, block)
    for node in walk.nodes:
        if node.index in walk.absorbed:
            continue
        handler = HANDLERS.get(node.op) if node.proto.domain in ("", "ai.onnx", "com.microsoft") else None
        if handler is None:
            walk.unsupported[node.op] = None
            continue
        try:
            handler(walk, node)
        except KeyError as error:
            walk.unsupported[f"{node.op} (no shape known for {error})"] = None
    return Work(tuple(walk.kernels), tuple(walk.unsupported))


def total_macs(model: onnx.ModelProto) -> int | None:
    """The multiply-accumulates of one image, without padding; None where an operator is not known."""
    work = kernels_of(model)
    return None if work.unsupported else sum(kernel.macs for kernel in work.kernels)


def parameter_count(model: onnx.ModelProto) -> int:
    """The number of weights and biases, however they are stored: in float, quantized, or packed.

    They are the constants that what runs for an image reads, after all that ONNX Runtime computes on loading: neither
    shapes nor other settings, nor the scales and zero points of quantization. A constant counts for each operator that
    reads it, for files store equal ones once, by chance alike or not.
    """
    walk = Walk(model, 1, WIDEST)
    literals = {name for n in model.graph.node if n.op_type == "Constant" for name in n.output}
    return sum(_parameters(walk, node, literals) for node in walk.nodes)


def _parameters(walk: Walk, node: Node, literals: AbstractSet[str]) -> int:
    names = node.inputs[:1] if node.op in FIRST_ALONE else node.inputs
    if node.op == "MatMulNBits":  # its weight is packed in blocks, its other constants but the bias describe them
        names = node.inputs[5:]
    elif node.op == "Mul" and any(p and p.op == "DynamicQuantizeLinear" for p in map(walk.producers.get, names)):
        names = []  # a scale that is found at run time, times that of the weights
    found = [walk.types[name] for name in names if name in walk.constants - literals and name in walk.types]
    # Scalars and integers of 8 bytes are settings too: factors, axes, shapes.
    count = sum(typed.elements for typed in found if typed.shape and typed.element_bytes != INT64_BYTES)
    return count + int(node.attribute("K", 0)) * int(node.attribute("N", 0))
