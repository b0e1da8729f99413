"""The work of convolutions and products, against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from nas_edge.latency.graph import kernels_of
from nas_edge.latency.walk import KernelWork

from .networks import Network


def only(net: Network, output: str, rank: int = 4) -> KernelWork:
    """The one kernel with work of its own."""
    ignored = ("reorder", "quantize", "dequantize", "bookkeeping")
    (found,) = [k for k in kernels_of(net.model(output, rank)).kernels if not k.kind.startswith(ignored)]
    return found


def conv(channels: int, filters: int, kernel: int, side: int, *, stride: int = 1, group: int = 1) -> KernelWork:
    net = Network(channels, side)
    return only(net, net.conv("input", filters, channels // group, kernel, stride=stride, group=group))


def int8_conv(channels: int, filters: int, kernel: int, side: int, *, group: int = 1) -> KernelWork:
    net = Network(channels, side)
    output = net.int8_conv(net.quantized("input"), filters, channels // group, kernel, group=group)
    return only(net, net.quantized(output))


def check(work: KernelWork, kind: str, features: Mapping[str, float]) -> None:
    assert work.kind == kind
    assert dict(work.features) == pytest.approx({"calls": 1.0, **features})


def test_a_pointwise_convolution_whose_last_set_has_two_blocks() -> None:
    work = conv(32, 96, 1, 10)
    macs = 100 * 96 * 32 / 1e6
    expected = {
        "mega_macs": macs,
        "weight_kilobytes": 12,
        "kilobytes": (32 + 96) * 100 / 256,
        "kilo_rows": 0.002,  # two sets of filters
        "mega_odd_macs": macs * 4 / 100,  # 100 columns in tiles of 6
        "mega_macs_of_2_blocks": macs / 3,
    }
    check(work, "pointwise", expected)
    assert work.macs == 307_200
    assert work.dims == (32, 96, 100, 1, 100)


def test_padding_is_computed_and_moved() -> None:
    """20 -> 50 channels are 32 -> 64 in blocks."""
    macs = 100 * 64 * 32 / 1e6
    expected = {
        "mega_macs": macs,
        "weight_kilobytes": 50 * 32 / 256,
        "kilobytes": (20 + 64 + 12) * 100 / 256,
        "kilo_rows": 0.001,
        "mega_odd_macs": macs * 4 / 100,
    }
    work = conv(20, 50, 1, 10)
    check(work, "pointwise", expected)
    assert work.macs == 100 * 50 * 20


@pytest.mark.parametrize(("channels", "passes"), [(128, 1), (144, 2), (320, 3)])
def test_a_pointwise_convolution_takes_128_channels_a_pass(channels: int, passes: int) -> None:
    features = conv(channels, 16, 1, 6).features
    assert features["kilo_rows"] == pytest.approx(passes / 1e3)
    assert features["mega_macs_of_1_blocks"] == features["mega_macs"] == pytest.approx(36 * 16 * channels / 1e6)
    assert "mega_odd_macs" not in features  # 36 columns fill 6 tiles


def test_a_dense_convolution_has_borders_and_odd_columns() -> None:
    macs = 15 * (15 * 3 - 2) * 64 * 32 * 3 / 1e6  # the rows of the kernel above and below the image are skipped
    expected = {
        "mega_macs": macs,
        "weight_kilobytes": 64 * 32 * 9 / 256,
        "kilobytes": (32 + 64) * 225 / 256,
        "kilo_rows": (15 * 3 - 2) * 2 / 1e3,  # rows of the kernel, blocks of channels
        "mega_odd_macs": macs / 15,  # 13 inner columns: two tiles and one
        "mega_border_macs": macs * 2 / 15,
    }
    check(conv(32, 64, 3, 15), "dense", expected)


def test_the_first_convolution_reads_plain_channels() -> None:
    macs = 16 * (16 * 3 - 1) * 32 * 3 * 3 / 1e6  # with a stride of 2 only the first row reaches out
    expected = {
        "mega_macs": macs,
        "weight_kilobytes": 32 * 27 / 256,
        "kilobytes": (3 * 32 * 32 + 256 * 32) / 256,
        "kilo_rows": (16 * 3 - 1) / 1e3,
        "mega_odd_macs": macs / 8,  # 14 inner columns of 16
        "mega_border_macs": macs / 8,
        "mega_macs_of_2_blocks": macs,
        "kilo_row_taps": (16 * 3 - 1) * 3 / 1e3,
    }
    check(conv(3, 32, 3, 32, stride=2), "direct.dense", expected)


def test_a_depthwise_convolution_computes_each_padded_channel_once() -> None:
    macs = 14 * (14 * 3 - 2) * 48 * 3 / 1e6
    expected = {
        "mega_macs": macs,
        "weight_kilobytes": 40 * 9 / 256,
        "kilobytes": (40 + 48 + 8) * 196 / 256,
        "kilo_rows": (14 * 3 - 2) * 3 / 1e3,  # rows of the kernel, blocks
        "mega_border_macs": macs / 7,  # 12 inner columns are two tiles: none is odd
        "kilo_row_taps": (14 * 3 - 2) * 3 * 3 / 1e3,
    }
    work = conv(40, 40, 3, 14, group=40)
    check(work, "depthwise", expected)
    assert work.macs == 196 * 40 * 9


def test_a_map_narrower_than_the_kernel_is_all_border() -> None:
    features = conv(16, 16, 5, 3, group=16).features
    assert features["mega_border_macs"] == pytest.approx(features["mega_macs"])


def test_groups_of_whole_blocks_are_blocked() -> None:
    macs = 6 * (6 * 3 - 2) * 64 * 16 * 3 / 1e6
    work = conv(64, 64, 3, 6, group=4)
    assert work.kind == "grouped" and work.features["mega_macs"] == pytest.approx(macs)
    assert conv(32, 32, 3, 6, group=4).kind == "plain.grouped"  # 8 channels a group


def test_one_pixel_is_a_product_with_a_vector() -> None:
    assert conv(32, 8, 1, 1).kind == "vector"
    assert conv(8, 32, 1, 1).kind == "direct.vector"


@pytest.mark.parametrize(("channels", "group"), [(37, 1), (22, 1), (37, 37), (13, 13)])
def test_other_widths_run_on_plain_channels(channels: int, group: int) -> None:
    work = conv(channels, channels, 3, 8, group=group)
    inner = channels // group
    assert work.kind == ("plain.dense" if group == 1 else "plain.depthwise")
    assert work.features["mega_macs"] == pytest.approx(64 * channels * inner * 9 / 1e6) == work.macs / 1e6
    assert work.features["weight_kilobytes"] == pytest.approx(channels * inner * 9 / 256)
    assert work.features["kilobytes"] == pytest.approx(2 * channels * 64 / 256)


def test_an_activation_and_an_addition_inside_cost_a_pass() -> None:
    net = Network(32, 8)
    start = net.node("Relu", [net.conv("input", 32, 32)])
    value = net.node("HardSwish", [net.node("Add", [net.conv(start, 32, 32), start])])
    first, second = (k for k in kernels_of(net.model(value)).kernels if k.kind == "pointwise")
    assert first.features["relu_kilobytes"] == second.features["add_kilobytes"] == 8
    assert second.features["hardswish_kilobytes"] == 8 and "add_kilobytes" not in first.features


def test_an_int8_pointwise_convolution_is_a_product_of_packed_tiles() -> None:
    expected = {
        "mega_macs": 100 * 40 * 32 / 1e6,
        "mega_tile_macs": 112 * 64 * 32 / 1e6,
        "mega_outputs": 100 * 32 / 1e6,
        "kilo_pixels": 0.1,
        "kilobytes": (40 + 24) * 100 / 1024,
        "weight_kilobytes": 40 * 24 / 1024,
    }
    work = int8_conv(40, 24, 1, 10)
    check(work, "int8.pointwise", expected)
    assert work.macs == 100 * 40 * 24


def test_an_int8_dense_convolution_gathers_its_taps() -> None:
    features = int8_conv(16, 16, 3, 10).features
    assert features["kilo_taps"] == pytest.approx(0.9) and features["kilo_rows"] == pytest.approx(0.3)
    assert features["mega_packed"] == pytest.approx(100 * 9 * 16 / 1e6)
    assert features["mega_macs"] == pytest.approx(100 * 144 * 16 / 1e6)
    assert features["mega_tile_macs"] == pytest.approx(112 * 192 * 16 / 1e6)


def test_int8_groups_are_products_of_their_own() -> None:
    work = int8_conv(64, 64, 3, 10, group=4)
    assert work.kind == "int8.grouped"
    assert work.features["mega_macs"] == pytest.approx(100 * 144 * 16 * 4 / 1e6)
    assert work.features["kilo_pixels"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("channels", "special"),
    [
        (32, {"kilo_tap_blocks": 0.9 * 2}),
        (24, {"kilo_tap_halves": 0.9 * 3}),
        (37, {"kilo_tap_halves": 0.9 * 4, "kilo_tap_singles": 0.9 * 5}),
        (5, {"kilo_tap_singles": 0.9 * 5}),
    ],
)
def test_an_int8_depthwise_convolution_works_on_16_8_or_single_channels(
    channels: int, special: Mapping[str, float]
) -> None:
    padded = -(-channels // 16) * 16
    expected = {
        "kilobytes": 2 * channels * 100 / 1024,
        "weight_kilobytes": channels * 9 / 1024,
        "kilo_taps": 0.9,
        "kilo_pixels": padded * 100 / 1e6,
        **special,
    }
    work = int8_conv(channels, channels, 3, 10, group=channels)
    check(work, "int8.depthwise", expected)
    assert work.macs == 100 * 9 * channels


def test_a_product_with_weights_and_one_of_two_values() -> None:
    net = Network(4, 8)
    rows = net.node("Reshape", ["input", net.constant(np.array([-1, 4, 64]))])
    static = only(net, net.node("MatMul", [rows, net.weight(64, 10)]), rank=3)
    expected = {"mega_macs": 4 * 16 * 64 / 1e6, "kilobytes": (4 * 64 + 4 * 10) / 256, "weight_kilobytes": 640 / 256}
    check(static, "gemm", expected)
    assert static.dims == (4, 10, 64) and static.macs == 4 * 10 * 64

    net = Network(4, 8)
    rows = net.node("Reshape", ["input", net.constant(np.array([-1, 4, 64]))])
    other = net.node("Reshape", ["input", net.constant(np.array([-1, 64, 4]))])
    both = only(net, net.node("MatMul", [rows, other]), rank=3)
    check(both, "matmul", {"mega_macs": 4 * 16 * 64 / 1e6, "kilobytes": (2 * 4 * 64 + 16) / 256})


def test_few_channels_and_few_filters_are_other_int8_kernels() -> None:
    assert int8_conv(3, 16, 3, 10).kind == "int8.thin.dense"
    assert int8_conv(16, 8, 1, 10).features["kilo_narrow_pixels"] == pytest.approx(0.1)
    assert "kilo_narrow_pixels" not in int8_conv(16, 16, 1, 10).features
