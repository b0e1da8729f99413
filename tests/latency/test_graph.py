"""Kernels against what ONNX Runtime really runs, and their work against closed forms."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from nas_edge import ModelError
from nas_edge.latency.graph import kernels_of, parameter_count, total_macs

from .networks import Network, random_mobile


def kinds(model: onnx.ModelProto) -> list[str]:
    return [kernel.kind for kernel in kernels_of(model).kernels]


def optimised_ops(model: onnx.ModelProto, tmp_path: Path) -> Counter[str]:
    """The operators that are left after ONNX Runtime's own optimisation."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node)


def test_macs_of_convolutions_are_the_closed_forms() -> None:
    net = Network(3, 32)
    stem = net.conv("input", 20, 3, 3, stride=2)  # 16 x 16
    depthwise = net.conv(stem, 20, 1, 5, group=20)
    pointwise = net.conv(depthwise, 40, 20)
    model = net.model(pointwise)
    by_kind = {k.kind: k for k in kernels_of(model).kernels}
    pixels = 16 * 16
    assert by_kind["stem"].macs == pixels * 20 * 3 * 9
    assert by_kind["depthwise"].macs == pixels * 20 * 25
    assert by_kind["pointwise"].macs == pixels * 40 * 20
    assert total_macs(model) == pixels * (20 * 27 + 20 * 25 + 800)
    # What is computed has its channels padded to 16: 20 -> 32, 40 -> 48.
    assert by_kind["pointwise"].features[1] == pytest.approx(pixels * 48 * 32 / 1e6)
    assert by_kind["depthwise"].features[1] == pytest.approx(pixels * 32 * 25 / 1e6)
    assert by_kind["pointwise"].features[2] == pytest.approx(pixels * (20 + 40) * 4 / 1024)
    assert by_kind["pointwise"].features[3] == pytest.approx(40 * 20 * 4 / 1024)
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
    assert kinds(model) == ["stem", "pointwise", "pointwise"]


@pytest.mark.parametrize("channels", [20, 32, 21, 22])
def test_layouts_agree_with_onnx_runtime(channels: int, tmp_path: Path) -> None:
    """Blocked convolutions need a multiple of 4 channels; elsewhere the layout changes back and forth."""
    if "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("blocked convolutions are compared on x86 alone")
    net = Network(3, 16, batch=1)
    value = net.node("Relu", [net.conv("input", channels, 3, 3)])
    value = net.node("Relu", [net.conv(value, 64, channels)])
    value = net.node("Relu", [net.conv(value, 64, 1, 3, group=64)])
    model = net.model(net.conv(value, channels, 64))
    ours, theirs = Counter(kinds(model)), optimised_ops(model, tmp_path)
    assert sum(n for kind, n in ours.items() if kind.startswith("plain.")) == theirs["FusedConv"]
    assert sum(ours.values()) - ours["reorder"] == theirs["Conv"] + theirs["FusedConv"]
    # The caller's own output is not counted as a reorder that a kernel asks for.
    assert ours["reorder"] == theirs["ReorderInput"] + theirs["ReorderOutput"] - 1


def test_squeeze_excite_costs_reorders() -> None:
    net = Network(3, 16)
    value = net.node("Relu", [net.conv("input", 32, 3, 3)])
    gate = net.node("HardSigmoid", [net.conv(net.node("GlobalAveragePool", [value]), 32, 32)])
    model = net.model(net.conv(net.node("Mul", [value, gate]), 16, 32))
    counted = Counter(kinds(model))
    assert counted["elementwise"] == 1
    assert counted["reorder"] == 3  # both operands out of blocks, the product back in


def test_quantized_groups_become_int8_kernels(tmp_path: Path) -> None:
    net = Network(16, 16, batch=1)
    value = net.quantized("input")
    value = net.quantized(net.node("Relu", [net.int8_conv(value, 32, 16)]), zero=0)
    value = net.quantized(net.int8_conv(value, 32, 1, 3, group=32))
    model = net.model(value)
    assert kinds(model) == ["quantize", "reorder", "int8.pointwise", "int8.depthwise", "dequantize"]
    theirs = optimised_ops(model, tmp_path)
    assert theirs["QLinearConv"] == 2
    assert total_macs(model) == 256 * (32 * 16 + 32 * 9)
    assert parameter_count(model) == 32 * 16 + 32 * 9


def test_a_hard_swish_in_int8_is_several_kernels() -> None:
    net = Network(16, 8, batch=1)
    value = net.quantized(net.int8_conv(net.quantized("input"), 16, 16))
    model = net.model(net.quantized(net.node("HardSwish", [value])))
    counted = Counter(kinds(model))
    assert counted["dequantize"] == 2 and counted["quantize"] == 2 and counted["activation"] == 1


def test_unsupported_operators_are_named_and_not_counted() -> None:
    net = Network(3, 8)
    value = net.node("Relu", [net.conv("input", 16, 3, 3)])
    model = net.model(net.node("Det", [value]), rank=2)
    work = kernels_of(model)
    assert work.unsupported == ("Det",)
    assert [k.kind for k in work.kernels] == ["stem"]


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


def test_the_walk_is_quick() -> None:
    models = [random_mobile(seed) for seed in range(10)]
    kernels_of(models[0])
    start = time.process_time()
    for model in models:
        assert kernels_of(model).unsupported == ()
    assert (time.process_time() - start) / len(models) < 0.02
