"""Fits the latency model to whole networks that were measured.

Prices come first (`prices.fit_prices`). What they leave is the sum of three Gaussian processes, learnt together from
the networks' totals (Rasmussen and Williams 2006, chapters 2 and 5; additive kernels as in Duvenaud et al. 2011):
other prices, shares of a kernel's time that vary smoothly with its sizes, and shares of the network's time that vary
smoothly with what it is made up of. Errors are relative: a network's row is divided by its latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas_edge.latency.graph import Work
from nas_edge.latency.model import (
    NETWORK_SCALE,
    SHAPE_SCALE,
    Array,
    LatencyModel,
    NetworkCorrection,
    alike,
    make_up,
)
from nas_edge.latency.networks import Kind, Networks
from nas_edge.latency.nodes import Observation, node_model
from nas_edge.latency.prices import fit_prices
from nas_edge.latency.shares import CONSTANT, condensed

SMALLEST_PART = 0.005  # of a network's time: how far a price near 0 may move
FOLDS = 5
OUTLIER = 4.5  # standard errors: what few networks have in common is no outlier
MOST_LOSS = 0.15  # of one network: no single one decides


@dataclass(frozen=True)
class Spreads:
    """Prior standard deviations, as shares: of a price, of a kernel's time, of a network's time; and the noise."""

    prices: float
    shapes: float
    network: float
    noise: float


# From many exact measurements to few rough ones.
CHOICES = (
    Spreads(prices=0.3, shapes=0.3, network=0.1, noise=0.02),
    Spreads(prices=0.3, shapes=0.3, network=0.3, noise=0.02),
    Spreads(prices=0.1, shapes=0.3, network=0.1, noise=0.03),
    Spreads(prices=0.03, shapes=0.05, network=0.1, noise=0.03),
)


def fit(
    works: Sequence[Work],
    latency_ms: Sequence[float] | Array,
    earlier: LatencyModel | None = None,
    nodes: Sequence[Sequence[Observation]] = (),
) -> tuple[LatencyModel, Array]:
    """The model of measured networks, and its signed relative errors in cross-validation.

    Each error is of a model fitted without that network, with the prior spreads that predict such networks best.
    `earlier` is the model of a similar device: prices are shrunk towards its own, times how much slower this one is,
    and its shape corrections are kept where the networks say nothing else. Without one, the model of single nodes
    (`node_model`) serves the same, where `nodes` holds those that were timed of each network and that predicts better.
    """
    measured = np.asarray(latency_ms, dtype=float)
    fold = np.random.default_rng(0).permutation(len(works)) % FOLDS
    errors: dict[tuple[int, Spreads], Array] = {}
    for held in range(FOLDS):
        kept, left = np.flatnonzero(fold != held).tolist(), np.flatnonzero(fold == held).tolist()
        for number, prior in enumerate(_priors(earlier, [nodes[i] for i in kept if nodes])):
            fitted = _Fit([works[i] for i in kept], measured[kept], prior)
            for spreads in CHOICES:
                model = fitted.model(spreads)
                row = errors.setdefault((number, spreads), np.zeros(len(works)))
                row[left] = [model.latency_ms(works[i]) / measured[i] - 1 for i in left]
    number, spreads = min(errors, key=lambda way: float(np.minimum(np.abs(errors[way]), MOST_LOSS).mean()))
    fitted = _Fit(works, measured, _priors(earlier, nodes)[number])
    return fitted.model(spreads), errors[number, spreads]


def _priors(earlier: LatencyModel | None, nodes: Sequence[Sequence[Observation]]) -> Sequence[LatencyModel | None]:
    """The models to start from: `earlier`; without it nothing, or the model of the nodes that were timed."""
    if earlier is not None:
        return [earlier]
    return [None, node_model(observation for network in nodes for observation in network)] if any(nodes) else [None]


class _Fit:
    """The covariances of all networks, and what follows from them."""

    def __init__(self, works: Sequence[Work], measured_ms: Array, earlier: LatencyModel | None) -> None:
        self.earlier = earlier.shapes if earlier else {}
        self.networks = networks = Networks(works, self.earlier)
        self.measured = measured_ms
        self.prices = fit_prices(networks, measured_ms, earlier)
        self.priced = np.maximum(networks.amounts @ self.prices, 1e-6)
        self.price_spread = self._price_spread()
        self.kinds = tuple(kind.name for kind in networks.kinds)
        self.plain = LatencyModel(float(self.prices[0]), networks.by_name(self.prices))
        self.points = np.array([self._point(work) for work in networks.works])
        self.shapes = [self._shapes(kind) for kind in networks.kinds]
        rows = networks.amounts * self.price_spread / measured_ms[:, None]
        share = self.priced / measured_ms
        self.by_prices = rows @ rows.T
        self.by_network = alike(self.points, self.points, NETWORK_SCALE) * share[:, None] * share[None]
        self.by_shapes = np.zeros_like(self.by_prices)
        for unique, parts in self.shapes:
            self.by_shapes += parts @ (alike(unique, unique, SHAPE_SCALE) + CONSTANT) @ parts.T

    def _price_spread(self) -> Array:
        """How far each price may move: a price itself, or what makes up a small part of a network's time."""
        amounts = self.networks.amounts
        parts = np.where(amounts > 0, amounts / self.priced[:, None], np.nan)
        typical = np.array([np.nanmedian(column) for column in parts.T])
        spread: Array = np.maximum(self.prices, SMALLEST_PART / np.maximum(typical, 1e-12))
        return spread

    def _point(self, work: Work) -> Array:
        priced = np.array([self.plain.priced_ms(k) for k in work.kernels])
        return make_up(self.kinds, [k.kind for k in work.kernels], priced, self.plain.base_ms)

    def _shapes(self, kind: Kind) -> tuple[Array, Array]:
        """The distinct shapes of a kind, and what share of each network's time they are priced at."""
        unique, place = np.unique(np.round(kind.logs, 3), axis=0, return_inverse=True)
        parts = np.zeros((len(self.networks.works), len(unique)))
        np.add.at(parts, (kind.network, place.ravel()), kind.amounts @ self.prices[list(kind.columns)])
        return unique, parts / self.measured[:, None]

    def model(self, spreads: Spreads) -> LatencyModel:
        """The posterior mean, after more noise for networks that the others contradict."""
        noise = np.ones(len(self.measured))
        errors, expected = self._left_out(spreads, noise)
        noise = np.maximum(1.0, np.abs(errors) / expected / OUTLIER) ** 2
        return self._posterior(spreads, noise)

    def _covariance(self, spreads: Spreads, noise: Array) -> Array:
        covariance: Array = (
            spreads.prices**2 * self.by_prices
            + spreads.shapes**2 * self.by_shapes
            + spreads.network**2 * self.by_network
            + np.diag((spreads.noise * noise) ** 2)
        )
        return covariance

    @property
    def _missing(self) -> Array:
        """What the prices leave, and the earlier corrections, as a share of each network's time."""
        missing: Array = 1 - self.networks.expected @ self.prices / self.measured
        return missing

    def _left_out(self, spreads: Spreads, noise: Array) -> tuple[Array, Array]:
        """The error of each network when the others predict it, and its standard error (equation 5.12)."""
        inverse = np.linalg.inv(self._covariance(spreads, noise))
        precision = np.diag(inverse)
        return (inverse @ self._missing) / precision, 1 / np.sqrt(precision)

    def _posterior(self, spreads: Spreads, noise: Array) -> LatencyModel:
        weights = np.linalg.solve(self._covariance(spreads, noise), self._missing)
        shifts = (
            spreads.prices**2 * self.price_spread**2 * ((self.networks.amounts / self.measured[:, None]).T @ weights)
        )
        corrections = {
            kind.name: condensed(unique, spreads.shapes**2 * (parts.T @ weights), parts.sum(axis=0)).plus(
                self.earlier.get(kind.name)
            )
            for kind, (unique, parts) in zip(self.networks.kinds, self.shapes, strict=True)
        }
        network = NetworkCorrection(self.kinds, self.points, spreads.network**2 * weights * self.priced / self.measured)
        return replace(
            self.plain,
            base_shift_ms=float(shifts[0]),
            shifts=self.networks.by_name(shifts),
            shapes=corrections,
            network=network,
        )
