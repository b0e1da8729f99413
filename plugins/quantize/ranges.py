"""Where the range of an activation ends: at its extremes, at percentiles, or where the least information is lost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .graphs import Array

Range = tuple[np.float32, np.float32]
BINS = 2048  # of the histogram that thresholds are chosen on
STRIDE = 8  # bins between two thresholds that are tried


def percentile_range(values: Array, percentile: float, extremes: Range) -> Range:
    """The quantiles of the values `[n]` that leave (100 - percentile) / 2 per cent out at each end.

    Calibration by percentile (Wu et al. 2020, who cut magnitudes; here each end is cut for itself). The extremes where
    those leave no range at all.
    """
    tail = (1 - percentile / 100) / 2
    low, high = np.quantile(values, [tail, 1 - tail]).astype(np.float32)
    return (low, high) if low < high else extremes


def entropy_range(values: Array, extremes: Range) -> Range:
    """The extremes, cut at the magnitude where rounding loses the least information (Migacz, TensorRT, 2017).

    `values` are `[n]`. The side of larger magnitude gets its share of the 256 levels. See `entropy_threshold` for what
    is lost.
    """
    low, high = extremes
    largest = float(max(abs(low), abs(high)))
    if not low < high or largest == 0:
        return extremes
    levels = round(255 * min(1.0, largest / float(high - low)))
    counts, _ = np.histogram(np.abs(values), BINS, (0, largest))
    threshold = np.float32(largest * entropy_threshold(counts, levels) / BINS)
    return max(low, -threshold), min(high, threshold)


def entropy_threshold(histogram: npt.NDArray[np.int64], levels: int) -> int:
    """How many bins of a histogram of magnitudes to keep, so that `levels` levels describe it best.

    For each number of bins, P is the histogram with all that is cut added to the last bin, and Q is P without that,
    merged into `levels` groups, each spread evenly over its bins that are not empty. The number with the least
    Kullback-Leibler divergence, sum of P log(P / Q), wins. The first bin, which in the output of a ReLU holds all the
    zeros, counts as much as the second: zero is exact at any scale.
    """
    counts = histogram.astype(np.float64)
    counts[0] = counts[1]
    if len(counts) <= levels or not counts.any():
        return len(counts)
    best, least = len(counts), np.inf
    beyond = counts.sum() - np.cumsum(counts)
    for kept in range(len(counts), levels - 1, -STRIDE):
        merged = counts[:kept].copy()
        merged[-1] += beyond[kept - 1]
        divergence = _divergence(merged, counts[:kept], levels)
        if divergence < least:
            best, least = kept, divergence
    return best


def _divergence(reference: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], levels: int) -> float:
    """KL(P || Q) of a histogram and its best description in levels; infinite where Q is nothing and P is something."""
    starts = np.arange(levels) * len(counts) // levels
    filled = reference > 0
    sizes = np.diff(np.append(starts, len(counts)))
    share = np.add.reduceat(counts, starts) / np.maximum(np.add.reduceat(filled, starts, dtype=np.float64), 1)
    described = np.repeat(share, sizes)[filled]
    if (described == 0).any():
        return np.inf
    p, q = reference[filled] / reference.sum(), described / described.sum()
    return float((p * np.log(p / q)).sum())
