"""Makes a quantized file smaller: beside 8-bit weights, long names and repeated zero points are a large part of it."""

from __future__ import annotations

import onnx


def compact(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Drop unused constants, share equal ones, shorten the names of tensors inside: in place.

    Operators that the original has keep their names, those that were added have none.
    """
    graph = model.graph
    _drop_unused(graph)
    _rename(graph, _shared_constants(graph))
    public = {v.name for v in (*graph.input, *graph.output)}
    tensors = dict.fromkeys(
        name
        for name in (*(i.name for i in graph.initializer), *(name for n in graph.node for name in n.output))
        if name and name not in public
    )
    numbers = (str(i) for i in range(len(tensors) + len(public)))
    _rename(graph, dict(zip(tensors, (n for n in numbers if n not in public), strict=False)))
    known = {node.name for node in original.graph.node}
    for node in graph.node:
        if node.name not in known:
            node.ClearField("name")


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Bounds of activations that a quantized range has taken over stay behind, and ONNX Runtime warns of them."""
    used = {name for node in graph.node for name in node.input} | {v.name for v in graph.output}
    for constant in list(graph.initializer):
        if constant.name not in used:
            graph.initializer.remove(constant)


def _shared_constants(graph: onnx.GraphProto) -> dict[str, str]:
    """Leaves one of each set of equal constants, and says by which the others are replaced."""
    first: dict[bytes, str] = {}
    replaced: dict[str, str] = {}
    for constant in list(graph.initializer):
        name = constant.name
        constant.ClearField("name")
        content = constant.SerializeToString(deterministic=True)
        constant.name = name
        if first.setdefault(content, name) != name:
            replaced[name] = first[content]
            graph.initializer.remove(constant)
    return replaced


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
    for constant in graph.initializer:
        constant.name = names.get(constant.name, constant.name)
