"""Damages ONNX models: in their bytes, and field by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from onnx import TensorProto, helper

from ..latency.networks import Network, random_mobile
from .damage import damaged_bytes

Model = onnx.ModelProto
WORDS = ("", "..", "/etc/passwd", "../../etc/passwd", "a" * 5_000, "é", "Conv", "If", "my.own", "\x1b[31m", "[/]")
OPERATORS = (
    *("Conv", "If", "Loop", "Scan", "Gemm", "MatMul", "Reshape", "QLinearConv", "Resize", "Concat", "Transpose"),
    *("ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Split", "Gather", "Shape", "Einsum", "TopK", "Nope"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "Softmax", "Add", "Where", "ReduceMean", "BatchNormalization"),
)
NUMBERS = (0, -1, 1, 2, 7, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
ELSEWHERE = ("/etc/passwd", "../outside.bin", "/dev/zero", "weights.bin/../../x")
LOCATIONS = (*ELSEWHERE, "missing.bin", "weights.bin", ".", "", "a\0b")


def int8_network() -> Model:
    net = Network(3, 8)
    value = net.quantized(net.int8_conv(net.quantized("input"), 16, 3, 3))
    flat = net.node("Flatten", [net.node("GlobalAveragePool", [value])])
    return net.model(net.node("Gemm", [flat, net.weight(10, 16)], transB=1), rank=2)


def tokens_network() -> Model:
    """Shapes that are computed, products of what is computed, an int64 constant."""
    import numpy as np

    net = Network(4, 8, batch=1)
    shape = net.node("Concat", [net.constant(np.array([1, 4])), net.constant(np.array([64]))], axis=0)
    tokens = net.node("Reshape", ["input", shape])
    turned = net.node("Transpose", [tokens], perm=[0, 2, 1])
    mixed = net.node("MatMul", [net.node("Softmax", [net.node("MatMul", [turned, tokens])]), net.weight(64, 10)])
    part = [net.constant(np.array(v)) for v in ([0, 0], [32, 5], [1, 2])]
    return net.model(net.node("Slice", [mixed, *part]), rank=3)


def branching_network() -> Model:
    """A graph within a graph, and a function of its own."""
    net = Network(3, 8)
    value = net.conv("input", 8, 3, 3)
    branch = helper.make_graph(
        [helper.make_node("Relu", [value], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    condition = net.node("Constant", [], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    taken = net.node("If", [condition], then_branch=branch, else_branch=branch)
    flat = net.node("Flatten", [net.node("GlobalAveragePool", [taken])])
    return net.model(net.node("Gemm", [flat, net.weight(10, 8)], transB=1), rank=2)


SOUND: dict[str, Model] = {
    "mobile": random_mobile(0),
    "mobile with gates": random_mobile(3),
    "int8": int8_network(),
    "tokens": tokens_network(),
    "branching": branching_network(),
}


@st.composite
def damaged_model(draw: DrawFn, sound: Model) -> bytes:
    """The bytes of a model with up to three changed fields, or of one that was damaged as a file."""
    model = Model()
    model.CopyFrom(sound)
    kind = draw(st.integers(0, 19))
    if kind == 0:
        return deep(draw(st.sampled_from((20, 34, 1_000, 20_000))))
    if kind < 5:
        content: bytes = draw(damaged_bytes(model.SerializeToString()))
        return content
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from(CHANGES))(draw, model)
    return bytes(model.SerializeToString())


def deep(levels: int) -> bytes:
    """A graph in an attribute of a node of a graph, and so on: more levels than protobuf's own writer gives out."""
    fields = [b"\x3a"] + [b"\x0a", b"\x2a", b"\x32"] * levels  # model.graph, then graph.node, node.attribute, its graph
    parts, length = [], 0
    for field in reversed(fields):
        size = _varint(length)
        parts += [size, field]
        length += len(size) + 1
    return b"\x08\x08" + b"".join(reversed(parts)) + b"\x42\x02\x10\x11"


def _varint(number: int) -> bytes:
    written = bytearray()
    while number >= 128:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


def _node(draw: DrawFn, model: Model) -> onnx.NodeProto:
    chosen: onnx.NodeProto = (
        draw(st.sampled_from(list(model.graph.node))) if model.graph.node else model.graph.node.add()
    )
    return chosen


def _weight(draw: DrawFn, model: Model) -> TensorProto:
    return draw(st.sampled_from(list(model.graph.initializer))) if model.graph.initializer else TensorProto()


def _word(draw: DrawFn) -> str:
    return draw(st.one_of(st.sampled_from(WORDS), st.text(st.characters(codec="utf-8"), max_size=8)))


def _number(draw: DrawFn) -> int:
    return draw(st.one_of(st.sampled_from(NUMBERS), st.integers(-100, 100)))


def domain(draw: DrawFn, model: Model) -> None:
    others = ("my.own", "com.microsoft", "ai.onnx.ml", "ai.onnx.training", "\0")
    _node(draw, model).domain = draw(st.sampled_from(others))


def operator(draw: DrawFn, model: Model) -> None:
    _node(draw, model).op_type = draw(st.sampled_from(OPERATORS))


def ends(draw: DrawFn, model: Model) -> None:
    """Inputs or outputs of a node: gone, empty, more, of others, or its own (a cycle)."""
    node = _node(draw, model)
    names = [name for other in model.graph.node for name in (*other.input, *other.output)] + ["", "nowhere", "input"]
    side = draw(st.sampled_from((node.input, node.output)))
    match draw(st.sampled_from(("drop", "clear", "add", "replace", "replace"))):
        case "drop" if side:
            del side[draw(st.integers(0, len(side) - 1))]
        case "clear":
            del side[:]
        case "replace" if side:
            side[draw(st.integers(0, len(side) - 1))] = draw(st.sampled_from(names))
        case _:
            side.append(draw(st.sampled_from(names)))


def order(draw: DrawFn, model: Model) -> None:
    nodes = list(model.graph.node)
    changed = draw(st.sampled_from((nodes[::-1], nodes[1:], nodes[:-1], nodes + nodes[-1:], nodes[:1] * 3 + nodes)))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in changed]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def attribute(draw: DrawFn, model: Model) -> None:
    """An attribute: gone, of another type, empty, with other numbers or another name."""
    node = draw(st.sampled_from([n for n in model.graph.node if n.attribute] or [_node(draw, model)]))
    if not node.attribute:
        node.attribute.append(helper.make_attribute(_word(draw) or "x", _number(draw)))
        return
    chosen = draw(st.sampled_from(list(node.attribute)))
    match draw(st.sampled_from(("drop", "name", "numbers", "numbers", "type", "empty"))):
        case "drop":
            node.attribute.remove(chosen)
        case "name":
            chosen.name = _word(draw)
        case "numbers":
            if chosen.ints:
                chosen.ints[draw(st.integers(0, len(chosen.ints) - 1))] = _number(draw)
            else:
                chosen.i = _number(draw)
        case "type":
            chosen.type = draw(st.sampled_from(list(onnx.AttributeProto.AttributeType.values())))
        case _:
            del chosen.ints[:]


def weight(draw: DrawFn, model: Model) -> None:
    """A constant: its shape, its type, its bytes or its name."""
    chosen = _weight(draw, model)
    match draw(st.sampled_from(("dims", "dims", "type", "bytes", "more bytes", "name", "gone", "double"))):
        case "dims" if chosen.dims:
            chosen.dims[draw(st.integers(0, len(chosen.dims) - 1))] = _number(draw)
        case "dims":
            chosen.dims.append(_number(draw))
        case "type":
            chosen.data_type = draw(st.sampled_from((*range(30), 10**6, -1)))
        case "bytes":
            chosen.raw_data = chosen.raw_data[: draw(st.integers(0, 8))]
        case "more bytes":
            chosen.raw_data += b"\xff" * draw(st.integers(1, 9))
        case "name":
            chosen.name = _word(draw)
        case "gone" if model.graph.initializer:
            model.graph.initializer.remove(chosen)
        case _:
            model.graph.initializer.add().CopyFrom(chosen)


def outside(draw: DrawFn, model: Model) -> None:
    """A constant whose values are said to lie in another file."""
    chosen = _weight(draw, model)
    chosen.ClearField("raw_data")
    chosen.data_location = TensorProto.EXTERNAL
    given: dict[str, Any] = {"location": draw(st.one_of(st.sampled_from(LOCATIONS), st.none()))}
    given["offset"] = draw(st.sampled_from((None, "0", "-1", "4096", str(2**62), "x", "")))
    given["length"] = draw(st.sampled_from((None, "16", "-16", str(2**62), "1e3")))
    for key, value in given.items():
        if value is not None:
            chosen.external_data.add(key=key, value=value)


def shape(draw: DrawFn, model: Model) -> None:
    """The shape or the type of an input or an output."""
    value = draw(st.sampled_from([*model.graph.input, *model.graph.output] or [model.graph.input.add()]))
    tensor = value.type.tensor_type
    match draw(st.sampled_from(("side", "side", "type", "none", "name", "axes", "kind"))):
        case "side" if tensor.shape.dim:
            tensor.shape.dim[draw(st.integers(0, len(tensor.shape.dim) - 1))].dim_value = _number(draw)
        case "type":
            tensor.elem_type = draw(st.sampled_from((*range(30), 10**6, -1)))
        case "none":
            tensor.ClearField("shape")
        case "name":
            value.name = _word(draw)
        case "kind":
            value.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
        case _:
            for _ in range(draw(st.integers(1, 12))):
                tensor.shape.dim.add(dim_value=_number(draw))


def version(draw: DrawFn, model: Model) -> None:
    match draw(st.sampled_from(("opset", "ir", "none", "twice", "domain"))):
        case "opset" if model.opset_import:
            model.opset_import[0].version = _number(draw)
        case "ir":
            model.ir_version = _number(draw)
        case "none":
            del model.opset_import[:]
        case "twice":
            model.opset_import.add(domain="", version=draw(st.integers(1, 30)))
        case _:
            model.opset_import.add(domain=_word(draw), version=_number(draw))


def graph(draw: DrawFn, model: Model) -> None:
    """The graph as a whole: without outputs, without nodes, nameless, or nested in itself."""
    match draw(st.sampled_from(("outputs", "inputs", "nodes", "name", "nested"))):
        case "outputs":
            del model.graph.output[:]
        case "inputs":
            del model.graph.input[:]
        case "nodes":
            del model.graph.node[:]
        case "name":
            model.graph.name = _word(draw)
        case _:
            inner = onnx.GraphProto.FromString(model.graph.SerializeToString())
            for depth in range(draw(st.sampled_from((1, 3, 20)))):
                branches = {"then_branch": inner, "else_branch": onnx.GraphProto()}
                node = helper.make_node("If", ["input"], [f"nested{depth}"], **branches)
                inner = helper.make_graph([node], "nested", [], [])
            model.graph.node.extend(inner.node)


def function(draw: DrawFn, model: Model) -> None:
    """A function in the file, which may call itself, and a node that calls it."""
    name = draw(st.sampled_from(("Own", "Conv", "Relu")))
    calls = draw(st.sampled_from(("Own", "Relu", "Identity")))
    inner = helper.make_node(calls, ["x"], ["y"], domain="own" if calls == "Own" else "")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", name, ["x"], ["y"], [inner], opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    node = _node(draw, model)
    node.domain, node.op_type = "own", name


CHANGES: tuple[Callable[[DrawFn, Model], None], ...] = (
    *(domain, operator, operator, ends, ends, order, attribute, attribute, weight, weight),
    *(outside, shape, shape, version, graph, function),
)
