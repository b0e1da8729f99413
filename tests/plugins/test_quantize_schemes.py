"""Each scheme: what is in the file, what ONNX Runtime makes of it, how close it computes, and how large it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from nas_edge import Context, Split
from nas_edge.export import logits, session
from nas_edge_plugins.quantize.weights import grid_scales, in_blocks, packed, packed_int4, to_grid

from .quantize_kit import (
    Array,
    as_run,
    exported,
    initializers,
    operators,
    outputs,
    quality_db,
    quantized,
    sqnr_db,
    uneven,
)
from .toys import CHANNELS, CLASSES, SIDE, conv, head, inputs, toy

SCHEMES: dict[str, dict[str, Any]] = {
    "signed": {"activations": "signed"},
    "tensor": {"granularity": "tensor"},
    "five bits": {"weight_bits": 5},
    "four bits": {"weight_bits": 4, "bias_correction": True},
    "int16": {"scheme": "int16"},
    "dynamic": {"scheme": "dynamic"},
    "float16": {"scheme": "float16"},
    "int4": {"scheme": "int4"},
}
QUALITY_DB = {"five bits": 15, "four bits": 20, "int4": 15, "float16": 55}  # at least; 35 for the others
each = pytest.mark.parametrize("scheme", SCHEMES)


class Tokens(nn.Module):
    """A linear layer on positions: a MatMul with constant weights and no bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(CHANNELS, 24, 4, 4)
        self.mix = nn.Linear(24, 40)
        self.classify = nn.Linear(40, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        out: Tensor = self.classify(self.mix(tokens).relu().mean(1))
        return out


def tokens() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Tokens()


def wide() -> nn.Module:
    """Weights enough that nothing else counts in the file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Identity(), nn.Sequential(*conv(CHANNELS, 128), nn.ReLU(), *conv(128, 256), nn.ReLU(), *head(256))
        )


@each
@pytest.mark.parametrize("name", ["squeeze_excite", "self_attention", "tokens"])
def test_it_computes_about_the_same(name: str, scheme: str, context: Context) -> None:
    graph = exported(tokens() if name == "tokens" else toy(name))
    content = graph.SerializeToString()
    made = quantized(graph, context, **SCHEMES[scheme])
    assert graph.SerializeToString() == content
    for count in (1, 7):  # any batch size
        x = inputs(count).numpy()
        assert sqnr_db(logits(session(graph), x), logits(session(made), x)) > QUALITY_DB.get(scheme, 35)
    assert made.graph.input == graph.graph.input
    assert [o.name for o in made.graph.output] == ["logits"]


@each
def test_the_same_bytes_each_time_and_the_same_structure_untrained(scheme: str, context: Context) -> None:
    graph = exported(toy("squeeze_excite"))
    once, twice = (quantized(graph, context, **SCHEMES[scheme]) for _ in range(2))
    assert once.SerializeToString() == twice.SerializeToString()
    draft = quantized(graph, replace(context, trained=False), **SCHEMES[scheme])
    assert operators(draft) == operators(once)
    shapes = sorted((list(i.dims), i.data_type) for i in once.graph.initializer)
    assert abs(len(draft.graph.initializer) - len(shapes)) <= 2  # equal zero points may be shared


@pytest.mark.parametrize(
    ("scheme", "ratio"),
    [("tensor", 1 / 4), ("five bits", 1 / 4), ("four bits", 1 / 8), ("dynamic", 1 / 4), ("float16", 1 / 2)],
)
def test_a_large_file_shrinks_by_the_bits(scheme: str, ratio: float, context: Context) -> None:
    graph = exported(wide())
    made = quantized(graph, context, **SCHEMES[scheme]).ByteSize() / graph.ByteSize()
    assert ratio < made < 1.06 * ratio


def test_blocks_of_4_bits_cost_a_scale_each(context: Context) -> None:
    graph = exported(wide())
    for size in (32, 256):
        made = quantized(graph, context, scheme="int4", block_size=size).ByteSize() / graph.ByteSize()
        bits = 4 + (32 + 4) / size
        assert bits / 32 < made < 1.06 * bits / 32


def test_a_scale_a_channel_beats_one_a_tensor_where_channels_are_uneven(context: Context) -> None:
    """With 16-bit activations, so that the error is that of the weights."""
    graph = exported(uneven())
    channel, tensor = (quality_db(graph, context, scheme="int16", granularity=g) for g in ("channel", "tensor"))
    assert channel > tensor + 10
    channel, tensor = (quality_db(graph, context, scheme="dynamic", granularity=g) for g in ("channel", "tensor"))
    assert channel > tensor + 1.5  # the activations are uneven too, and have one scale each


def test_signed_activations_are_the_unsigned_less_128(context: Context) -> None:
    graph = exported(toy("plain"))
    found = []
    for activations, dtype in (("unsigned", np.uint8), ("signed", np.int8)):
        made = quantized(graph, context, activations=activations)
        constants = initializers(made)
        quantizers = [n for n in made.graph.node if n.op_type == "QuantizeLinear"]
        zeros = [constants[n.input[2]] for n in quantizers]
        assert all(z.dtype == dtype for z in zeros)
        found.append(([int(z) for z in zeros], [float(constants[n.input[1]]) for n in quantizers], outputs(made)))
    (unsigned, scales, first), (signed, same, second) = found
    assert signed == [z - 128 for z in unsigned]
    assert same == scales
    assert sqnr_db(first, second) > 60
    assert min(unsigned) == 0 < max(unsigned)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("bits", [2, 3, 4, 7])
def test_weights_lie_on_a_grid_of_their_bits(bits: int, granularity: str, context: Context, tmp_path: Path) -> None:
    graph = exported(toy("plain"))
    made = quantized(graph, context, weight_bits=bits, granularity=granularity)
    constants, makers = initializers(made), {n.output[0]: n for n in made.graph.node}
    originals = {n.name: n.input[1] for n in graph.graph.node if n.op_type in {"Conv", "Gemm"}}
    top = 2 ** (bits - 1) - 1
    for layer in (n for n in made.graph.node if n.op_type in {"Conv", "Gemm"}):
        dequantize = makers[layer.input[1]]
        stored = makers.get(dequantize.input[0])
        assert (stored is not None) == (bits <= 4)
        values = constants[stored.input[0] if stored else dequantize.input[0]].astype(np.int8)
        assert values.min() >= -top and values.max() <= top and np.abs(values).max() == top
        exact, scale = initializers(graph)[originals[layer.name]], constants[dequantize.input[1]]
        axes = tuple(range(1, exact.ndim)) if granularity == "channel" else None
        np.testing.assert_allclose(scale, np.abs(exact).max(axes) / top, rtol=1e-6)
        scale = scale.reshape(-1, *[1] * (exact.ndim - 1))
        assert (np.abs(values * scale - exact) <= 0.5001 * scale).all()
    run = as_run(made, str(tmp_path / "run.onnx"))
    assert run.count("QLinearConv") == 3
    assert not {"Conv", "Cast"} & set(run)


def test_each_bit_is_worth_6_db() -> None:
    weight = np.random.default_rng(0).uniform(-1, 1, (8, 4096)).astype(np.float32)
    quality = []
    for bits in range(3, 9):
        scales = grid_scales(weight, bits, 0)
        quality.append(sqnr_db(weight, to_grid(weight, scales, bits, 0) * scales[:, None]))
        assert quality[-1] == pytest.approx(20 * np.log10(2 ** (bits - 1) - 1) + 6.02, abs=0.3)
    assert grid_scales(np.zeros((2, 3), np.float32), 8, 0).tolist() == [1, 1]


def test_16_bit_activations_leave_the_error_of_the_weights(context: Context, tmp_path: Path) -> None:
    graph = exported(toy("inverted_residual"))
    images = context.data.train.images[:64]  # all of those seen in calibration, so that nothing is beyond the ranges
    context = replace(context, data=replace(context.data, train=Split(images, context.data.train.labels[:64])))
    made = quantized(graph, context, scheme="int16", calibration_images=64)
    assert {o.domain: o.version for o in made.opset_import}[""] == 21
    constants = initializers(made)
    zeros = [constants[n.input[2]] for n in made.graph.node if n.op_type == "QuantizeLinear"]
    assert {z.dtype for z in zeros} == {np.dtype(np.uint16)}
    signed = initializers(quantized(graph, context, scheme="int16", activations="signed"))
    assert np.dtype(np.int16) in {v.dtype for v in signed.values()}
    rounded = onnx.ModelProto()  # the float network with the weights of the file
    rounded.CopyFrom(graph)
    makers = {n.output[0]: n for n in made.graph.node}
    for layer in (n for n in made.graph.node if n.op_type in {"Conv", "Gemm"}):
        made_of = makers[layer.input[1]]
        values, scale = constants[made_of.input[0]], constants[made_of.input[1]]
        assert values.dtype == np.int8
        name = next(n.input[1] for n in rounded.graph.node if n.name == layer.name)
        weight = next(i for i in rounded.graph.initializer if i.name == name)
        value = (values * scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.float32)
        weight.CopyFrom(onnx.numpy_helper.from_array(value, name))
    x = images.numpy().astype(np.float32) / np.float32(255)
    assert sqnr_db(logits(session(rounded), x), logits(session(made), x)) > 70
    assert "QLinearConv" not in as_run(made, str(tmp_path / "run.onnx"))
    assert "in float" in context.notes[-1]


def test_dynamic_ranges_are_those_of_the_batch(context: Context) -> None:
    """One linear layer by hand: s v sum((q - z) w) + bias."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        linear = nn.Linear(CHANNELS * SIDE * SIDE, CLASSES)
    made = quantized(exported(nn.Sequential(nn.Flatten(), linear)), context, scheme="dynamic")
    assert operators(made) == ["Flatten", "DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", "Add"]
    x = 3 * inputs(4).numpy()
    scale = np.float32(x.max() / 255)  # the smallest value counts as 0 where it is above
    rounded = np.rint(x.reshape(4, -1) / scale)
    weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    v = np.abs(weight).max(1) / 127
    expected = scale * v * (rounded @ np.rint(weight / v[:, None]).T) + bias
    np.testing.assert_allclose(logits(session(made), x), expected, rtol=1e-4, atol=1e-5)


def test_dynamic_convolutions_are_integer_and_share_their_input(context: Context) -> None:
    graph = exported(toy("self_attention"))
    made = quantized(graph, context, scheme="dynamic")
    found = operators(made)
    assert found.count("ConvInteger") == operators(graph).count("Conv")
    assert found.count("MatMulInteger") == 1
    assert found.count("DynamicQuantizeLinear") == found.count("ConvInteger") + 1 - 2  # query, key and value share one
    assert "Conv" not in found


def test_float16_is_stored_and_float32_computed(context: Context, tmp_path: Path) -> None:
    graph = exported(toy("plain"))
    made = quantized(graph, context, scheme="float16")
    exact = initializers(graph)
    halved = [v for v in initializers(made).values() if v.dtype == np.float16]
    wanted = sorted((v for v in exact.values() if v.dtype == np.float32 and v.size >= 16), key=np.size)
    for half, value in zip(sorted(halved, key=np.size), wanted, strict=True):
        assert half.shape == value.shape
        np.testing.assert_allclose(np.sort(half, None), np.sort(value, None), rtol=2**-11, atol=2**-25)
    assert operators(made).count("Cast") == len(halved)
    assert as_run(made, str(tmp_path / "half.onnx")) == as_run(graph, str(tmp_path / "float.onnx"))


def test_float16_cuts_what_is_too_large(context: Context) -> None:
    graph = exported(toy("plain"))
    weight = max(graph.graph.initializer, key=lambda i: np.prod(i.dims))
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] = 1e6
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    made = initializers(quantized(graph, context, scheme="float16"))
    assert max(v.max() for v in made.values() if v.dtype == np.float16) == 65504


@pytest.mark.parametrize("size", [16, 32])
def test_blocks_are_rounded_by_their_own_scale(size: int) -> None:
    weight = np.random.default_rng(0).normal(0.5, 1, size=(6, 72)).astype(np.float32)
    weight[2, :size] = 0
    blocks = in_blocks(weight, size)
    count = -(-72 // size)
    assert blocks.values.shape == (6, count, size)
    assert blocks.scales.shape == blocks.zeros.shape == (6, count)
    first = weight[0, :size]
    assert blocks.scales[0, 0] == pytest.approx((max(first.max(), 0) - min(first.min(), 0)) / 15)
    error = np.abs(unpacked(weight, size) - weight)
    assert (error <= 0.5001 * np.repeat(blocks.scales, size, 1)[:, :72]).all()
    assert (unpacked(weight, size)[2, :size] == 0).all()


def test_4_bit_values_are_packed_two_in_a_byte() -> None:
    signed = np.array([[-8, 7, 0], [1, -1, 3]], np.int8)
    for values in (signed, (signed + 8).astype(np.uint8)):
        constant = packed_int4("w", values)
        assert onnx.numpy_helper.to_array(constant).astype(int).tolist() == values.tolist()
        assert len(constant.raw_data) == 3
    assert packed(np.array([[1, 2, 3]], np.uint8)).tolist() == [[1 + 16 * 2, 3]]


def unpacked(weight: Array, size: int) -> Array:
    """A matrix as its 4-bit blocks give it back."""
    blocks = in_blocks(np.ascontiguousarray(weight), size)
    values = (blocks.values.astype(np.float32) - blocks.zeros[..., None]) * blocks.scales[..., None]
    return np.asarray(values.reshape(len(weight), -1)[:, : weight.shape[1]], np.float32)


def test_4_bit_products_and_convolutions_compute_with_the_rounded_weights(context: Context, tmp_path: Path) -> None:
    """Against the float network with rounded weights; ONNX Runtime unpacks convolutions once, products not at all."""
    for model in (toy("plain"), toy("inverted_residual"), tokens()):
        graph = exported(model)
        made = quantized(graph, context, scheme="int4")
        for node in graph.graph.node:
            weight = next((i for i in graph.graph.initializer if len(node.input) > 1 and i.name == node.input[1]), None)
            if node.op_type not in {"Conv", "Gemm", "MatMul"} or weight is None:
                continue
            exact = onnx.numpy_helper.to_array(weight)
            rows = exact.T if node.op_type == "MatMul" else exact.reshape(len(exact), -1)
            columns = rows.shape[1]
            size = -(-columns // -(-columns // 32)) if node.op_type == "Conv" else 32
            value = unpacked(rows, size)
            value = value.T if node.op_type == "MatMul" else value.reshape(exact.shape)
            weight.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(value), weight.name))
        assert sqnr_db(outputs(graph), outputs(made)) > 80
        run = as_run(made, str(tmp_path / "run.onnx"))
        assert run.count("MatMulNBits") == sum(n in {"Gemm", "MatMul"} for n in operators(graph))
        assert not {"Cast", "DequantizeLinear"} & set(run)


def test_blocks_that_do_not_fill_a_row_are_cut(context: Context) -> None:
    """37 columns in blocks of 32: two of 19, one value stored for nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(CHANNELS, 37, 3, 2), nn.ReLU(), nn.Conv2d(37, 16, 1), *head(16))
    made = quantized(exported(model), context, scheme="int4")
    assert operators(made).count("Slice") == 1
    assert quality_db(exported(model), context, scheme="int4") > 15


@pytest.mark.parametrize("scheme", ["signed", "dynamic", "int4"])
def test_constants_that_layers_share_are_seen(scheme: str, context: Context) -> None:
    """The exporter stores equal biases once, and has the other layers read copies of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(CHANNELS, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(), *head(16))
        for layer in (network[0], network[2]):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    graph = exported(network)
    assert "Identity" in operators(graph)
    content = graph.SerializeToString()
    made = quantized(graph, context, **SCHEMES[scheme])
    assert "Identity" not in operators(made)
    assert graph.SerializeToString() == content
    assert not [v.shape for v in initializers(made).values() if v.dtype == np.float32 and v.ndim == 4]
    assert quality_db(graph, context, **SCHEMES[scheme]) > QUALITY_DB.get(scheme, 35)
