"""The latency model: a sum over kernels, and a correction by what the whole network is like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas_edge.latency.graph import KernelWork, Work

MAX_CORRECTION = 0.3  # of the logarithm: a correction mends, it does not decide


@dataclass(frozen=True)
class Correction:
    """A linear model of the logarithm of measured over summed latency, on standardised whole-network features.

    `weights`, `means` and `scales` hold one value a feature, by its name.
    """

    intercept: float
    weights: Mapping[str, float]
    means: Mapping[str, float]
    scales: Mapping[str, float]

    def factor(self, features: Mapping[str, float]) -> float:
        """What the sum is multiplied by."""
        log = self.intercept
        for name, weight in self.weights.items():
            log += weight * (features.get(name, 0.0) - self.means[name]) / self.scales[name]
        return math.exp(max(-MAX_CORRECTION, min(MAX_CORRECTION, log)))


@dataclass(frozen=True)
class LatencyModel:
    """ms = (base + sum over kernels of coefficients[kind] . features) * correction.

    A kind that is not in `coefficients` costs an unknown time: `unknown` names it, and the sum leaves it out.
    """

    base_ms: float
    coefficients: Mapping[str, tuple[float, ...]]
    correction: Correction | None = None

    def kernel_ms(self, kernel: KernelWork) -> float:
        """The time of one kernel before the correction; 0 for an unknown kind."""
        coefficients = self.coefficients.get(kernel.kind)
        if coefficients is None:
            return 0.0
        return sum(c * f for c, f in zip(coefficients, kernel.features, strict=True))

    def times_ms(self, work: Work) -> tuple[float, list[float]]:
        """The base and the time of each kernel in ms, corrected: they add up to the latency."""
        times = [self.kernel_ms(kernel) for kernel in work.kernels]
        factor = 1.0
        if self.correction is not None:
            factor = self.correction.factor(network_features(work, self.base_ms, times))
        return self.base_ms * factor, [t * factor for t in times]

    def latency_ms(self, work: Work) -> float:
        base, times = self.times_ms(work)
        return base + sum(times)

    def unknown(self, work: Work) -> tuple[str, ...]:
        """The kinds of kernel that were never calibrated."""
        return tuple(sorted({k.kind for k in work.kernels} - self.coefficients.keys()))


def network_features(work: Work, base_ms: float, times_ms: Sequence[float]) -> dict[str, float]:
    """What a correction may look at: the summed latency, the number of kernels, and each kind's share of the time."""
    total = max(base_ms + sum(times_ms), 1e-6)
    features = {"log_ms": math.log(total), "log_kernels": math.log(1 + len(work.kernels))}
    for kernel, ms in zip(work.kernels, times_ms, strict=True):
        name = f"share.{kernel.kind}"
        features[name] = features.get(name, 0.0) + ms / total
    return features
