"""A latency model of single nodes, as ONNX Runtime's profiler times them.

Node times are many and tell kernels apart, but they do not add up to a network's latency: the profiler adds its own
to each node, rounds to microseconds, and hides what kernels cost each other. So the model is a prior for the fit to
whole networks (`fit`), which scales and corrects it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from nas_edge.latency.model import SHAPE_SCALE, Array, LatencyModel, ShapeCorrection, alike
from nas_edge.latency.shares import CONSTANT, condensed
from nas_edge.latency.walk import KernelWork

Observation = tuple[KernelWork, float]
OVERHEAD = "calls"  # its price is the profiler's own time, not the kernel's
MIN_OBSERVATIONS = 8  # of a kind
RESOLUTION_MS = 0.5e-3
NOISE = 0.06  # of a node's time: states of the machine within the profile
SHARE_SPREAD = 0.3  # prior standard deviation of a shape's share
MOST_SHARE = 0.5
RIDGE = 0.003
PASSES = 4
OUTLIER = 0.15  # relative error above which an observation has less weight


def node_model(observations: Iterable[Observation]) -> LatencyModel:
    """Prices and shape corrections of the kinds of kernel that were observed often, from times in ms.

    Its `base_ms` is 0, and `calls` have no price: both are unknown. Equal kernels count once, with the median of
    their times, so bursts of other work do little harm.
    """
    kinds: dict[str, list[Observation]] = {}
    for kernel, ms in observations:
        kinds.setdefault(kernel.kind, []).append((kernel, ms))
    prices, shapes = {}, {}
    for kind, observed in sorted(kinds.items()):
        features = sorted({name for kernel, _ in observed for name in kernel.features} - {OVERHEAD})
        if features and len(observed) >= MIN_OBSERVATIONS:
            prices[kind], shapes[kind] = _fit_kind(features, observed)
    return LatencyModel(0.0, prices, shapes=shapes)


def _fit_kind(features: Sequence[str], observed: Sequence[Observation]) -> tuple[dict[str, float], ShapeCorrection]:
    kernels, times, counts = _merged(observed)
    amounts = np.array([[k.features.get(name, 0.0) for name in (OVERHEAD, *features)] for k in kernels])
    overhead, *prices = fitted = _prices(amounts, times, counts)
    priced = np.maximum(amounts @ fitted - amounts[:, 0] * overhead, 1e-6)
    shares = np.clip((times - amounts[:, 0] * overhead) / priced - 1, -MOST_SHARE, MOST_SHARE)
    deviation = np.hypot(NOISE * times, RESOLUTION_MS) / priced / np.sqrt(counts) + NOISE
    logs = np.log2([kernel.dims for kernel in kernels])
    return dict(zip(features, map(float, prices), strict=True)), _shapes(logs, shares, deviation, priced * counts)


def _merged(observed: Sequence[Observation]) -> tuple[list[KernelWork], Array, Array]:
    """Kernels that differ, the median time of each in ms, and how often each was seen."""
    groups: dict[tuple[object, ...], list[Observation]] = {}
    for kernel, ms in observed:
        groups.setdefault((kernel.dims, *sorted(kernel.features.items())), []).append((kernel, ms))
    times = np.array([np.median([ms for _, ms in group]) for group in groups.values()])
    return [group[0][0] for group in groups.values()], times, np.array([float(len(g)) for g in groups.values()])


def _prices(amounts: Array, times: Array, counts: Array) -> Array:
    """Non-negative least squares on relative errors, those of the resolution aside, with less weight for outliers."""
    certain = np.sqrt(np.minimum(counts, 4)) / np.hypot(times, RESOLUTION_MS / NOISE)
    weights = certain
    prices: Array = np.zeros(amounts.shape[1])
    for _ in range(PASSES):
        rows = amounts * weights[:, None]
        ridge = np.sqrt(RIDGE * np.sum(rows**2, axis=0)) + 1e-12
        target = np.concatenate([times * weights, np.zeros(len(ridge))])
        prices = nnls(np.vstack([rows, np.diag(ridge)]), target, maxiter=10_000)[0]
        residual = np.abs(amounts @ prices / times - 1)
        weights = certain * np.minimum(1.0, OUTLIER / np.maximum(residual, 1e-9))
    return prices


def _shapes(logs: Array, shares: Array, deviation: Array, parts: Array) -> ShapeCorrection:
    """The posterior mean of a Gaussian process over the sizes (Rasmussen and Williams 2006, equation 2.25)."""
    unique, place = np.unique(np.round(logs, 1), axis=0, return_inverse=True)
    precision, totals, time = (_sums(place.ravel(), v) for v in (1 / deviation**2, shares / deviation**2, parts))
    covariance = SHARE_SPREAD**2 * (alike(unique, unique, SHAPE_SCALE) + CONSTANT)
    covariance += np.diag(1 / precision + NOISE**2)  # the mean's noise, and what else kernels of a shape differ by
    weights = SHARE_SPREAD**2 * np.linalg.solve(covariance, totals / precision)
    return condensed(unique, weights.astype(np.float64), time)


def _sums(place: npt.NDArray[np.int64], values: Array) -> Array:
    sums = np.zeros(int(place.max()) + 1)
    np.add.at(sums, place, values)
    return sums
