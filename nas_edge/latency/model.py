"""The latency model: a price for each amount of work, and what kernels and whole networks are known to differ by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nas_edge.errors import UserError
from nas_edge.latency.graph import Work
from nas_edge.latency.walk import KernelWork

Array = npt.NDArray[np.float64]
SHAPE_SCALE = 4.0  # octaves of a size within which kernels of one kind are alike
NETWORK_SCALE = 1.0  # within which the points of networks are alike
LOG_SCALE = 2.0  # of the logarithm of the latency in a network's point
LEAST = 0.2  # a kernel costs at least this part of what its work is priced at


@dataclass(frozen=True)
class ShapeCorrection:
    """What kernels of one kind differ by from their price, as a share of it, over the logarithms of their sizes.

    A constant, and a sum of Gaussian bumps at `centres` `[points, sizes]` with `weights` `[points]`.
    """

    constant: float
    centres: Array
    weights: Array

    def at(self, logs: Array) -> tuple[Array, Array]:
        """The share for kernels `[kernels, sizes]`, and how unlike those measured each is, 0 to 1.

        Outside what was measured nothing but the constant is left of the share.
        """
        likeness = alike(logs, self.centres, SHAPE_SCALE)
        novelty: Array = np.maximum(1 - likeness.max(axis=1, initial=0.0) ** 2, 0)
        return self.constant + likeness @ self.weights, novelty

    def plus(self, other: ShapeCorrection | None) -> ShapeCorrection:
        """The sum of two corrections; this one where there is no other."""
        if other is None:
            return self
        return ShapeCorrection(
            self.constant + other.constant,
            np.concatenate([self.centres, other.centres]),
            np.concatenate([self.weights, other.weights]),
        )


@dataclass(frozen=True)
class NetworkCorrection:
    """What networks differ by from the sum of their kernels, as a share of it, by the make-up of their time.

    Gaussian bumps at `points` `[networks, 1 + kinds]`: the logarithm of the latency, and the square roots of the
    shares of `kinds`.
    """

    kinds: tuple[str, ...]
    points: Array
    weights: Array

    def at(self, make_up: Array) -> tuple[float, float]:
        """The share for a network's point, and how unlike those measured it is, 0 to 1."""
        likeness = alike(make_up[None], self.points, NETWORK_SCALE)[0]
        return float(likeness @ self.weights), max(0.0, 1 - float(likeness.max(initial=0.0)) ** 2)


@dataclass(frozen=True)
class Times:
    """A predicted network: the time of a run without any kernel, that of each kernel, and how unlike the calibrated
    networks it is, 0 to 1: the time-weighted novelty of its kernels' shapes, and that of its make-up."""

    base_ms: float
    kernels_ms: tuple[float, ...]
    shape_novelty: float
    network_novelty: float

    @property
    def total_ms(self) -> float:
        return self.base_ms + sum(self.kernels_ms)


@dataclass(frozen=True)
class LatencyModel:
    """`base_ms` and prices in ms per unit of a feature, by kind and feature; `shifts` correct prices (and `base`).

    A kind without prices costs an unknown time: `unknown` names it, and the sum leaves it out.
    """

    base_ms: float
    prices: Mapping[str, Mapping[str, float]]
    base_shift_ms: float = 0.0
    shifts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shapes: Mapping[str, ShapeCorrection] = field(default_factory=dict)
    network: NetworkCorrection | None = None

    def price(self, kind: str, feature: str) -> float | None:
        """What a unit of work costs in ms, with its correction; None where it has no price."""
        price = self.prices.get(kind, {}).get(feature)
        return None if price is None else max(price + self.shifts.get(kind, {}).get(feature, 0.0), 0.0)

    def priced_ms(self, kernel: KernelWork) -> float:
        """The time of one kernel by its price alone; 0 for an unknown kind."""
        return _cost(self.prices.get(kernel.kind, {}), kernel)

    def times(self, work: Work) -> Times:
        """The time of each kernel: they add up to the latency."""
        priced = np.array([self.priced_ms(k) for k in work.kernels])
        shifted = np.array([_cost(self.shifts.get(k.kind, {}), k) for k in work.kernels])
        shares, novelties = self._by_shape(work.kernels)
        parts = np.concatenate([[self.base_ms + self.base_shift_ms], priced * (1 + shares) + shifted])
        plain = max(self.base_ms + float(priced.sum()), 1e-6)
        total, unlike = float(parts.sum()), 0.0
        if self.network is not None:
            point = make_up(self.network.kinds, [k.kind for k in work.kernels], priced, self.base_ms)
            share, unlike = self.network.at(point)
            total += share * plain
        total = max(total, LEAST * plain)
        # A single part can come out below 0, which only the sum makes up for.
        parts = np.maximum(parts, LEAST * np.concatenate([[self.base_ms], priced]) + 1e-9)
        parts *= total / parts.sum()
        return Times(float(parts[0]), tuple(map(float, parts[1:])), float(priced @ novelties) / plain, unlike)

    def _by_shape(self, kernels: Sequence[KernelWork]) -> tuple[Array, Array]:
        """The correction of each kernel as a share of its price, and how unlike the measured ones it is."""
        shares, novelties = np.zeros(len(kernels)), np.zeros(len(kernels))
        by_kind: dict[str, list[int]] = {}
        for index, kernel in enumerate(kernels):
            by_kind.setdefault(kernel.kind, []).append(index)
        for kind, places in by_kind.items():
            if correction := self.shapes.get(kind):
                logs = np.log2([kernels[i].dims for i in places])
                if logs.shape[1] != correction.centres.shape[1]:
                    raise UserError(
                        f"the latency profile knows {kind} by {correction.centres.shape[1]} sizes, and it has "
                        f"{logs.shape[1]}; calibrate again"
                    )
                shares[places], novelties[places] = correction.at(logs)
            known = self.prices.get(kind, {}).keys()
            for place in places:
                if not kernels[place].features.keys() <= known:  # a kind of work without a price, left out of the sum
                    novelties[place] = 1.0
        return shares, novelties

    def latency_ms(self, work: Work) -> float:
        return self.times(work).total_ms

    def unknown(self, work: Work) -> tuple[str, ...]:
        """The kinds of kernel that were never calibrated."""
        return tuple(sorted({k.kind for k in work.kernels} - self.prices.keys()))

    def to_json(self) -> dict[str, Any]:
        shapes = {
            kind: {"constant": _rounded(s.constant), "centres": _rounded(s.centres), "weights": _rounded(s.weights)}
            for kind, s in sorted(self.shapes.items())
        }
        network = self.network
        return {
            "base_ms": self.base_ms,
            "base_shift_ms": self.base_shift_ms,
            "prices": {kind: dict(prices) for kind, prices in sorted(self.prices.items())},
            "shifts": {kind: dict(prices) for kind, prices in sorted(self.shifts.items())},
            "shapes": shapes,
            "network": None
            if network is None
            else {
                "kinds": list(network.kinds),
                "points": _rounded(network.points),
                "weights": _rounded(network.weights),
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LatencyModel:
        """Raises KeyError, TypeError or ValueError where it is not what `to_json` wrote."""
        shapes = {}
        for kind, stored in value["shapes"].items():
            centres, weights = _matrix(stored["centres"], 2), _matrix(stored["weights"], 1)
            if len(centres) != len(weights):
                raise ValueError(f"the shapes of {kind} have {len(centres)} centres and {len(weights)} weights")
            shapes[kind] = ShapeCorrection(_finite(stored["constant"]), centres, weights)
        network = None
        if (stored := value["network"]) is not None:
            kinds, points = tuple(map(str, stored["kinds"])), _matrix(stored["points"], 2)
            weights = _matrix(stored["weights"], 1)
            if points.shape != (len(weights), 1 + len(kinds)):
                raise ValueError("the tables of the network's correction do not fit together")
            network = NetworkCorrection(kinds, points, weights)
        return cls(
            base_ms=_price(value["base_ms"]),
            prices={kind: {n: _price(p) for n, p in row.items()} for kind, row in value["prices"].items()},
            base_shift_ms=_finite(value["base_shift_ms"]),
            shifts={kind: {n: _finite(p) for n, p in row.items()} for kind, row in value["shifts"].items()},
            shapes=shapes,
            network=network,
        )


def alike(a: Array, b: Array, scale: float) -> Array:
    """`exp(-|a - b|^2 / (2 scale^2))` of each row of `a` with each of `b`: `[rows of a, rows of b]`."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    likeness: Array = np.exp(-np.maximum(squares, 0) / (2 * scale**2))
    return likeness


def make_up(kinds: Sequence[str], of: Sequence[str], times_ms: Array, base_ms: float) -> Array:
    """A network's point `[1 + kinds]`: see `NetworkCorrection`."""
    total = max(base_ms + float(times_ms.sum()), 1e-6)
    column = {kind: i for i, kind in enumerate(kinds)}
    shares = np.zeros(len(kinds))
    for kind, ms in zip(of, times_ms, strict=True):
        if kind in column:
            shares[column[kind]] += ms / total
    return np.concatenate([[math.log(total) / LOG_SCALE], np.sqrt(shares)])


def _cost(prices: Mapping[str, float], kernel: KernelWork) -> float:
    cost = 0.0
    for name, amount in kernel.features.items():  # a sum over a generator takes twice as long, and this is inmost
        cost += prices.get(name, 0.0) * amount
    return cost


def _rounded(values: Array | float) -> Any:
    return np.vectorize(lambda v: float(f"{v:.6g}"))(values).tolist() if np.size(values) else []


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _price(value: Any) -> float:
    if _finite(value) < 0:
        raise ValueError(f"{value!r} is not a price of 0 or more")
    return float(value)


def _matrix(value: Any, axes: int) -> Array:
    array = np.array(value, dtype=float)
    if array.ndim != axes or not np.isfinite(array).all():
        raise ValueError(f"a table is not of finite numbers with {axes} axes")
    return array
