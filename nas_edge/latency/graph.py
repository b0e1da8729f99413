"""From an ONNX graph to the kernels that ONNX Runtime runs for it, with the work that each one does.

ONNX Runtime fuses and re-lays-out a graph before it runs it. The walk here follows its rules on a CPU:

- a convolution takes the batch normalisation, addition and activation that follow it;
- float convolutions run on blocked channels (16 a block, the rest padded) where their channels are a multiple of 4,
  and on plain ones otherwise; a change of layout is a kernel of its own;
- quantize / dequantize pairs around an operator make it an int8 one, and int8 convolutions run channels-last.

What an operator costs is said by its handler in `operators.HANDLERS`; one without a handler is named in
`Work.unsupported`, and never counted as nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import onnx

from nas_edge.errors import ModelError
from nas_edge.latency.operators import HANDLERS
from nas_edge.latency.walk import KernelWork, Walk

__all__ = ["KernelWork", "Work", "kernels_of", "load_graph", "parameter_count", "total_macs"]


@dataclass(frozen=True)
class Work:
    """All kernels of a network in their order, and the operators that nothing is known about."""

    kernels: tuple[KernelWork, ...]
    unsupported: tuple[str, ...]


def kernels_of(model: onnx.ModelProto, batch: int = 1) -> Work:
    """The kernels that ONNX Runtime runs for a model; a dynamic first axis is `batch`, other dynamic axes are 1.

    Raises `ModelError` where the shapes contradict each other.
    """
    walk = Walk(model, batch)
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


def load_graph(path: Path) -> onnx.ModelProto:
    """The graph in an ONNX file, without weights that lie in files beside it. Raises `ModelError` with the path."""
    try:
        model = onnx.load_model(path, load_external_data=False)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give the path of an ONNX file") from None
    except Exception as error:  # protobuf's own, which it has several of
        raise ModelError(f"{path}: not an ONNX model ({' '.join(str(error).split())})") from None
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{path}: not an ONNX model: it holds no graph")
    return model


def total_macs(model: onnx.ModelProto) -> int | None:
    """The multiply-accumulates of one image, without padding; None where an operator is not known."""
    work = kernels_of(model)
    return None if work.unsupported else sum(kernel.macs for kernel in work.kernels)


def parameter_count(model: onnx.ModelProto) -> int:
    """The number of weights and biases: not shapes, and not the scales and zero points of quantization."""
    counted = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.INT32}
    counted |= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    quantizers = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    helpers = {name for node in quantizers for name in node.input[1:]}
    weights = (w for w in model.graph.initializer if w.data_type in counted and w.name not in helpers)
    return sum(math.prod(weight.dims) for weight in weights)
