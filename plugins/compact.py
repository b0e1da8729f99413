"""Makes a file smaller: beside weights of few bits, long names and repeated zero points are a large part of it."""

from __future__ import annotations

import itertools

import onnx


def compact(model: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Drop unused constants, share equal ones, shorten the names of tensors inside: in place.

    Operators that the original has keep their names, those that were added have none.
    """
    graph = model.graph
    _drop_unused(graph)
    _rename(graph, _shared_constants(graph))
    number_tensors(graph)
    known = {node.name for node in original.graph.node}
    for node in graph.node:
        if node.name not in known:
            node.ClearField("name")


def number_tensors(graph: onnx.GraphProto) -> None:
    """Shorten the names of the tensors inside, in place.

    Inputs, outputs and operators keep theirs; nothing happens where a graph has graphs inside, which name its tensors.
    """
    if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for n in graph.node for a in n.attribute):
        return
    public = {v.name for v in (*graph.input, *graph.output)} | {""}
    inside = dict.fromkeys((*(i.name for i in graph.initializer), *(name for n in graph.node for name in n.output)))
    numbers = (text for text in map(str, itertools.count()) if text not in public)
    _rename(graph, {name: next(numbers) for name in inside if name not in public})


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
