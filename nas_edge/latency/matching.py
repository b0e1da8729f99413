"""Which of the node times that ONNX Runtime's profiler reports belongs to which kernel.

ONNX Runtime keeps a node's name as the beginning of what it fuses the node into (`conv1_token_17`), but names blocked
convolutions after the value that they leave (`relu1_output_nchwc`). Changes of layout and of precision, and what it
splits or joins an activation into, have names of its own: they are known by operator and size. What fits no kernel, or
several, is left out.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nas_edge.latency.graph import Work
from nas_edge.latency.walk import KernelWork

if TYPE_CHECKING:
    import onnx

BLOCKED_SUFFIX = "_nchwc"
MOST_FUSED = 4  # nodes after a convolution
ELEMENT_BYTES = {"float": 4, "double": 8, "float16": 2, "int8": 1, "uint8": 1, "int32": 4, "int64": 8, "bool": 1}
# Kinds that are known by size, and the operators that ONNX Runtime runs them as.
UNNAMED = {
    "quantize": ("QuantizeLinear",),
    "dequantize": ("DequantizeLinear",),
    "swish": ("QuickGelu",),
    "hard_swish": ("HardSigmoid", "Mul"),
    "reorder.blocked": ("ReorderInput",),
    "reorder.plain": ("ReorderOutput",),
    "reorder.channels_last": ("Transpose",),
}
LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]  # transposes to and from channels last
Size = tuple[int, int]  # bytes moved, channels (0 where they do not matter)


class NodeTime(NamedTuple):
    """A node that ran: its time, and the types and shapes of its first input and output."""

    name: str
    operator: str
    microseconds: float
    read: tuple[str, Sequence[int]]
    written: tuple[str, Sequence[int]]

    @classmethod
    def parse(cls, value: Sequence[Any]) -> NodeTime:
        """What an agent reports of a node."""
        name, operator, microseconds, read, written = value
        return cls(str(name), str(operator), float(microseconds), (read[0], read[1]), (written[0], written[1]))


def matched(graph: onnx.ModelProto, work: Work, nodes: Sequence[NodeTime]) -> list[tuple[KernelWork, float]]:
    """The kernels of `work`, which `kernels_of` made of `graph`, whose times are among `nodes`, with these in ms."""
    by_kernel, left = _by_name(graph, work, nodes)
    found = [(work.kernels[index], microseconds / 1e3) for index, microseconds in sorted(by_kernel.items())]
    rest = [kernel for index, kernel in enumerate(work.kernels) if index not in by_kernel]
    return found + _by_size(rest, left)


def _by_name(graph: onnx.ModelProto, work: Work, nodes: Sequence[NodeTime]) -> tuple[dict[int, float], list[NodeTime]]:
    """The time in microseconds by the index of its kernel, and the nodes that have no kernel's name."""
    counts = Counter(kernel.name for kernel in work.kernels)
    indices = {k.name: i for i, k in enumerate(work.kernels) if counts[k.name] == 1 and k.kind not in UNNAMED}
    results = _results(graph, counts.keys())
    # A kernel's name may begin another node's, which may be no kernel.
    owners = {node.name: node.name for node in graph.graph.node} | {name: name for name in indices}
    groups: dict[str, list[NodeTime]] = {}
    left = []
    for node in nodes:
        owner = results.get(node.name) or _owner(owners, node.name)
        if owner in indices and not node.operator.startswith("Reorder"):
            groups.setdefault(owner, []).append(node)
        else:
            left.append(node)
    times = {}
    for name, group in groups.items():
        exact = [node for node in group if node.name == name]
        chosen = group if len(group) == work.kernels[indices[name]].features.get("calls", 1) else exact
        if chosen:
            times[indices[name]] = sum(node.microseconds for node in chosen)
        left += [node for node in group if node not in chosen]
    return times, left


def _owner(owners: Mapping[str, str], name: str) -> str:
    """The longest node's name that a name is, or begins with before a `_` or `/`; empty where there is none."""
    while name and name not in owners:
        name = name[: max(name.rfind("_"), name.rfind("/"), 0)]
    return owners.get(name, "")


def _results(graph: onnx.ModelProto, kernels: Iterable[str]) -> dict[str, str]:
    """The names that blocked convolutions may go by, of their own value and those that fused nodes make of it."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for value in node.input:
            readers.setdefault(value, []).append(node)
    kernels = set(kernels)
    names: dict[str, str] = {}
    for node in graph.graph.node:
        if node.op_type != "Conv":
            continue
        value, owner = node.output[0], node.name or node.output[0]
        for _ in range(MOST_FUSED):
            names.setdefault(value + BLOCKED_SUFFIX, owner)
            following = readers.get(value, [])
            if len(following) != 1 or (following[0].name or following[0].output[0]) in kernels:
                break
            value = following[0].output[0]
    return names


def _by_size(kernels: Iterable[KernelWork], nodes: Iterable[NodeTime]) -> list[tuple[KernelWork, float]]:
    """Kernels without a name get the median of the nodes that are like them, in ms."""
    times: dict[tuple[str, Size], list[float]] = {}
    for node in nodes:
        if size := _node_size(node):
            times.setdefault((node.operator, size), []).append(node.microseconds)
    found = []
    for kernel in kernels:
        operators = UNNAMED.get(kernel.kind, ())
        parts = [times.get((operator, _kernel_size(kernel))) for operator in operators]
        if parts and all(parts):
            found.append((kernel, sum(statistics.median(part) for part in parts if part) / 1e3))
    return found


def _kernel_size(kernel: KernelWork) -> Size:
    channels = round(kernel.dims[1]) if kernel.kind.startswith("reorder.") else 0
    return round(kernel.features["kilobytes"] * 1024), channels


def _node_size(node: NodeTime) -> Size | None:
    """What a node moves, in bytes read and written; None for a transpose that is no change of layout."""
    (read_type, read), (written_type, written) = node.read, node.written
    if node.operator in ("ReorderInput", "ReorderOutput") and len(read) == len(written) == 4:
        plain = read if node.operator == "ReorderInput" else written  # channels are not padded there
        return 2 * _bytes(written_type, plain), plain[1]
    if node.operator == "Transpose":
        if len(read) == len(written) == 4:
            for order, channels in ((LAST, read[1]), (FIRST, read[3])):
                if [read[axis] for axis in order] == list(written):
                    return 2 * _bytes(read_type, read), channels
        return None
    return _bytes(read_type, read) + _bytes(written_type, written), 0


def _bytes(element_type: str, shape: Sequence[int]) -> int:
    return math.prod(shape) * ELEMENT_BYTES.get(element_type, 4)
