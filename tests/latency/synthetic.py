"""Random networks of made-up kernels, and devices whose latencies follow from known prices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nas_edge.latency.graph import Work
from nas_edge.latency.walk import KernelWork

Prices = Mapping[str, Mapping[str, float]]
SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 192)
SIDES = (4, 7, 8, 14, 16, 28, 32)
TAPS = (9, 25)
PRICES: Prices = {  # ms per unit
    "pointwise": {"calls": 0.004, "mega_macs": 0.02, "kilobytes": 2e-5, "weight_kilobytes": 1e-4},
    "depthwise": {"calls": 0.003, "mega_macs": 0.15, "kilobytes": 5e-5, "weight_kilobytes": 0.0},
    "reorder.plain": {"calls": 0.002, "kilobytes": 1e-4},
}


def kernel(kind: str, channels: int, filters: int, side: int, taps: int = 9) -> KernelWork:
    """A kernel on a square map; `filters` counts in a product of channels alone, `taps` in a depthwise one."""
    pixels = side * side
    if kind.startswith("reorder"):
        kilobytes = 2 * channels * pixels / 256
        return KernelWork(kind, kind, 0, {"calls": 1.0, "kilobytes": kilobytes}, (kilobytes, float(channels)))
    taps = taps if kind == "depthwise" else 1
    inner = 1 if kind == "depthwise" else channels
    filters = channels if kind == "depthwise" else filters
    macs = pixels * filters * inner * taps
    features = {
        "calls": 1.0,
        "mega_macs": macs / 1e6,
        "kilobytes": (channels + filters) * pixels / 256,
        "weight_kilobytes": filters * inner * taps / 256,
    }
    return KernelWork(kind, kind, macs, features, (float(channels), float(filters), float(pixels), float(taps)))


def networks(count: int, seed: int = 0, kinds: tuple[str, ...] = tuple(PRICES)) -> list[Work]:
    """Networks of 4 to 20 kernels, with another mixture of kinds each."""
    draw = np.random.default_rng(seed)
    works = []
    for _ in range(count):
        shares = draw.dirichlet(np.ones(len(kinds)))
        chosen = draw.choice(len(kinds), draw.integers(4, 21), p=shares)
        sizes = [[int(draw.choice(choices)) for choices in (SIZES, SIZES, SIDES, TAPS)] for _ in chosen]
        works.append(Work(tuple(kernel(kinds[k], *size) for k, size in zip(chosen, sizes, strict=True)), ()))
    return works


def always_one(_: KernelWork) -> float:
    return 1.0


@dataclass(frozen=True)
class Device:
    """Runs a network in `base_ms` and, for each kernel, its price times what `slowness` says of it."""

    base_ms: float = 0.02
    prices: Prices = field(default_factory=lambda: PRICES)
    slowness: Callable[[KernelWork], float] = always_one

    def latency_ms(self, works: list[Work]) -> npt.NDArray[np.float64]:
        return np.array([self.base_ms + sum(map(self.kernel_ms, work.kernels)) for work in works])

    def kernel_ms(self, work: KernelWork) -> float:
        """The time of one kernel."""
        prices = self.prices[work.kind]
        return float(self.slowness(work) * sum(prices[name] * amount for name, amount in work.features.items()))


def narrow_is_slow(work: KernelWork) -> float:
    """Few channels use few lanes: up to three times slower, smoothly."""
    return float(1 + 2 / (1 + math.pow(work.dims[0] / 24, 1.5)))
