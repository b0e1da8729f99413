"""Where ranges end: against closed forms and ONNX Runtime's own calibrator."""

from __future__ import annotations

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from nas_edge import Context
from nas_edge_plugins.quantize import RANGES
from nas_edge_plugins.quantize.ranges import BINS, entropy_range, entropy_threshold, percentile_range

from .quantize_kit import Array, exported, initializers, quantized
from .toys import toy

WIDEST = (np.float32(-1e9), np.float32(1e9))


def extremes(values: Array) -> tuple[np.float32, np.float32]:
    return np.float32(values.min()), np.float32(values.max())


def test_percentiles_leave_half_of_the_tail_out_at_each_end() -> None:
    values = np.arange(10_001, dtype=np.float32)
    assert percentile_range(values, 99.0, WIDEST) == pytest.approx((50, 9950))
    assert percentile_range(
        np.append(np.zeros(9999, np.float32), np.float32(1)), 99.0, (values[0], values[9])
    ) == pytest.approx((0, 9))


def test_entropy_keeps_all_of_an_even_distribution() -> None:
    values = np.linspace(0, 1, 200_000, dtype=np.float32)
    assert entropy_range(values, extremes(values)) == pytest.approx((0, 1))
    assert entropy_threshold(np.ones(BINS, np.int64), 128) == BINS


@pytest.mark.parametrize("sign", [1, -1])
def test_entropy_cuts_a_lonely_outlier(sign: int) -> None:
    """Of 200,000 normal values the largest is about 4.5; the other end is its own extreme."""
    normal = np.abs(np.random.default_rng(0).normal(size=200_000))
    values = (sign * np.concatenate([normal, [20], [-0.5]])).astype(np.float32)
    low, high = entropy_range(values, extremes(values))
    inner, outer = (low, high) if sign > 0 else (-high, -low)
    assert inner == -0.5
    assert 4 < outer < 5


def test_at_16_bits_there_is_nothing_to_cut(context: Context) -> None:
    graph = exported(toy("plain"))
    files = {quantized(graph, context, scheme="int16", ranges=ranges).SerializeToString() for ranges in RANGES}
    assert len(files) == 1
    assert len({quantized(graph, context, ranges=ranges).SerializeToString() for ranges in RANGES}) == 3


@pytest.mark.parametrize("freedom", [2.5, 4.0, 30.0])
def test_entropy_agrees_with_onnxruntime(freedom: float) -> None:
    """On a symmetric histogram, where ONNX Runtime's calibrator spends half its levels on each side."""
    values = np.random.default_rng(0).standard_t(freedom, 400_000).astype(np.float32)
    values = np.concatenate([values, -values])
    largest = np.abs(values).max()
    half, levels = 512, 32
    counts, edges = np.histogram(values, 2 * half + 1, (-largest, largest))
    collector = HistogramCollector("entropy", True, 2 * half + 1, 2 * levels + 1, 99.99, "same")
    expected = float(collector.get_entropy_threshold((counts, edges, -largest, largest, largest), 2 * levels + 1)[1])
    found = largest * entropy_threshold(np.histogram(np.abs(values), half, (0, largest))[0], levels) / half
    assert found == pytest.approx(expected, rel=0.12)
    assert found < 0.9 * largest or freedom > 10


def test_each_choice_of_ranges_sets_the_scales(context: Context) -> None:
    """The narrower the ranges, the smaller the scales: sums over the network, with outliers in the data."""
    graph = exported(toy("plain"))

    def scales(ranges: str, **config: float) -> float:
        made = quantized(graph, context, ranges=ranges, **config)
        constants = initializers(made)
        names = {n.input[1] for n in made.graph.node if n.op_type == "QuantizeLinear"}
        return sum(float(np.sum(constants[name])) for name in names)

    widest, most, half = scales("minmax"), scales("percentile"), scales("percentile", percentile=90)
    assert half < 0.8 * most < 0.8 * widest
    assert scales("entropy") < widest


def test_narrow_ranges_serve_most_values_better() -> None:
    """Of a long-tailed distribution: the rounding error of the inner 99 %, at 8 bits."""
    values = np.random.default_rng(0).standard_t(2.5, 200_000).astype(np.float32)
    most = values[np.abs(values) < np.quantile(np.abs(values), 0.99)]

    def error(low: np.float32, high: np.float32) -> float:
        step = (high - low) / 255
        return float(np.abs(np.clip(np.rint(most / step) * step, low, high) - most).mean())

    widest = error(*extremes(values))
    assert error(*percentile_range(values, 99.9, WIDEST)) < 0.2 * widest
    assert error(*entropy_range(values, extremes(values))) < 0.4 * widest
