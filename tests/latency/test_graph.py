"""Kernels of small graphs, and their multiply-accumulates against closed forms."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, helper

from nas_edge import ModelError
from nas_edge.latency.graph import kernels_of, parameter_count, total_macs

from .networks import Network
from .optimised import theirs


def kinds(model: onnx.ModelProto) -> list[str]:
    return [kernel.kind for kernel in kernels_of(model).kernels]


def test_macs_of_convolutions_are_the_closed_forms() -> None:
    net = Network(3, 32)
    stem = net.conv("input", 20, 3, 3, stride=2)  # 16 x 16
    depthwise = net.conv(stem, 20, 1, 5, group=20)
    pointwise = net.conv(depthwise, 40, 20)
    model = net.model(pointwise)
    by_kind = {k.kind: k for k in kernels_of(model).kernels}
    pixels = 16 * 16
    assert by_kind["direct.dense"].macs == pixels * 20 * 3 * 9
    assert by_kind["depthwise"].macs == pixels * 20 * 25
    assert by_kind["pointwise"].macs == pixels * 40 * 20
    assert total_macs(model) == pixels * (20 * 27 + 20 * 25 + 800)
    assert parameter_count(model) == 20 * 27 + 20 + 20 * 25 + 20 + 800 + 40


def test_macs_of_products_are_the_closed_forms() -> None:
    net = Network(4, 8, batch=1)
    tokens = net.node("Reshape", ["input", net.constant(np.array([1, 4, 64]))])
    turned = net.node("Transpose", [tokens], perm=[0, 2, 1])
    scores = net.node("MatMul", [turned, tokens])  # [64, 4] x [4, 64]
    mixed = net.node("MatMul", [net.node("Softmax", [scores]), net.weight(64, 10)])
    model = net.model(mixed, rank=3)
    by_kind = {k.kind: k for k in kernels_of(model).kernels}
    assert by_kind["matmul"].macs == 64 * 4 * 64
    assert by_kind["gemm"].macs == 64 * 64 * 10
    assert kernels_of(model).unsupported == ()
    assert total_macs(model) == 64 * 4 * 64 + 64 * 64 * 10


def test_a_product_of_unknown_shapes_is_named() -> None:
    net = Network(3, 8)
    found = net.node("Cast", [net.node("NonZero", ["input"])], to=TensorProto.FLOAT)  # as many as are not zero
    model = net.model(net.node("MatMul", [net.node("Transpose", [found]), found]), rank=2)
    assert any(name.startswith("MatMul (no shape known for ") for name in kernels_of(model).unsupported)


def test_a_product_of_vectors_is_one_of_a_row_and_a_column() -> None:
    net = Network(3, 8, batch=1)
    vector = net.node("Reshape", ["input", net.constant(np.array([192]))])
    work = kernels_of(net.model(net.node("MatMul", [vector, vector]), rank=0))
    assert [k.macs for k in work.kernels if k.kind == "matmul"] == [192] and not work.unsupported


def test_the_batch_is_an_argument() -> None:
    net = Network(3, 8)
    model = net.model(net.conv("input", 16, 3, 3))
    once, four = kernels_of(model).kernels[0], kernels_of(model, batch=4).kernels[0]
    assert four.macs == 4 * once.macs == 4 * 64 * 16 * 27


def test_an_activation_and_an_addition_are_fused() -> None:
    net = Network(3, 16)
    start = net.node("HardSwish", [net.conv("input", 16, 3, 3)])
    branch = net.conv(net.node("Relu", [net.conv(start, 48, 16)]), 16, 48)
    model = net.model(net.node("Add", [start, branch]))
    assert kinds(model) == ["direct.dense", "pointwise", "pointwise"]


def test_an_activation_that_others_read_before_is_not_fused() -> None:
    net = Network(3, 16)
    start = net.conv("input", 16, 3, 3)
    model = net.model(net.node("Add", [start, net.node("Relu", [start])]))
    assert kinds(model) == ["direct.dense", "activation", "add"]


def test_squeeze_excite_costs_reorders() -> None:
    net = Network(3, 16)
    value = net.node("Relu", [net.conv("input", 32, 3, 3)])
    gate = net.node("HardSigmoid", [net.conv(net.node("GlobalAveragePool", [value]), 32, 32)])
    model = net.model(net.conv(net.node("Mul", [value, gate]), 16, 32))
    counted = Counter(kinds(model))
    assert counted["mul.over_space"] == 1
    # Both operands out of blocks, the product back in.
    assert counted["reorder.plain"] == 2 and counted["reorder.blocked"] == 1


def test_a_change_of_layout_is_made_once_for_all_its_readers() -> None:
    net = Network(32, 8)
    value = net.conv("input", 32, 32)
    sums = [net.node("ReduceMean", [value], axes=[axis]) for axis in (2, 3)]
    model = net.model(net.node("Mul", sums))
    assert Counter(kinds(model))["reorder.plain"] == 1


def test_quantized_groups_become_int8_kernels() -> None:
    net = Network(16, 16, batch=1)
    value = net.quantized("input")
    value = net.quantized(net.node("Relu", [net.int8_conv(value, 32, 16)]), zero=0)
    value = net.quantized(net.int8_conv(value, 32, 1, 3, group=32))
    model = net.model(value)
    assert kinds(model) == ["quantize", "reorder.channels_last", "int8.pointwise", "int8.depthwise", "dequantize"]
    assert theirs(model)["int8 convolution"] == 2
    assert total_macs(model) == 256 * (32 * 16 + 32 * 9)
    assert parameter_count(model) == 32 * 16 + 32 * 9


def test_a_hard_swish_in_int8_is_several_kernels() -> None:
    net = Network(16, 8, batch=1)
    value = net.quantized(net.int8_conv(net.quantized("input"), 16, 16))
    model = net.model(net.quantized(net.node("HardSwish", [value])))
    counted = Counter(kinds(model))
    assert counted["dequantize"] == 2 and counted["quantize"] == 2 and counted["hard_swish"] == 1
    (swish,) = [k for k in kernels_of(model).kernels if k.kind == "hard_swish"]
    assert swish.features["calls"] == 2  # a hard-sigmoid and a product


def test_16_bit_activations_have_no_integer_kernels() -> None:
    def network(dtype: type[np.generic]) -> onnx.ModelProto:
        net = Network(16, 16, batch=1)
        value = net.quantized("input", dtype=dtype)
        return net.model(net.quantized(net.int8_conv(value, 32, 16), dtype=dtype), opset=21)

    narrow, wide = network(np.uint8), network(np.uint16)
    assert kinds(narrow).count("int8.pointwise") == theirs(narrow)["int8 convolution"] == 1
    assert kinds(wide).count("pointwise") == 1 and not any(kind.startswith("int8") for kind in kinds(wide))
    assert theirs(wide)["int8 convolution"] == 0
    assert theirs(wide)["blocked convolution"] + theirs(wide)["plain convolution"] == 1


def test_settings_are_no_parameters() -> None:
    net = Network(3, 16)
    clipped = net.node(
        "Clip", [net.conv("input", 8, 3), net.constant(np.array(0, np.float32)), net.constant(np.array(6, np.float32))]
    )
    factor = net.node("Mul", [clipped, net.constant(np.array(0.5, np.float32))])
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    resized = net.node("Resize", [factor, "", scales], mode="nearest")
    model = net.model(net.node("Reshape", [resized, net.constant(np.array([-1, 2048]))]), rank=2)
    assert parameter_count(model) == 8 * 3 + 8


def test_a_constant_counts_for_each_layer_that_reads_it() -> None:
    net = Network(4, 8)
    weight = net.weight(4, 4, 1, 1)
    once = net.node("Conv", ["input", weight])
    assert parameter_count(net.model(net.node("Conv", [once, weight]))) == 2 * 16


def test_unsupported_operators_are_named_and_not_counted() -> None:
    net = Network(3, 8)
    value = net.node("Relu", [net.conv("input", 16, 3, 3)])
    model = net.model(net.node("Det", [value]), rank=2)
    work = kernels_of(model)
    assert work.unsupported == ("Det",)
    assert [k.kind for k in work.kernels] == ["direct.dense"]


def test_an_operator_of_another_domain_is_unsupported() -> None:
    node = helper.make_node("Relu", ["input"], ["output"], domain="my.own")
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph([node], "g", [value], [output])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.own", 1)]
    assert kernels_of(helper.make_model(graph, opset_imports=opsets)).unsupported == ("Relu",)


def test_a_contradictory_graph_is_a_model_error() -> None:
    net = Network(3, 8)
    net.nodes.append(helper.make_node("Conv", ["input", net.weight(4, 7, 1, 1)], ["wrong"], kernel_shape=[1, 1]))
    net.nodes.append(helper.make_node("MatMul", ["wrong", net.weight(5, 9)], ["product"]))
    model = net.model("product")
    try:
        work = kernels_of(model)
    except ModelError as error:
        assert "not a sound ONNX graph" in str(error)
    else:
        assert any("no shape known" in name for name in work.unsupported)
