"""Prices of work from the latencies of whole networks: least squares without negative prices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from nas_edge.latency.model import Array, LatencyModel
from nas_edge.latency.networks import Networks

COMMON = ("calls", "mega_macs", "kilobytes", "weight_kilobytes")  # work that a roofline prices alike in all kinds
NOISE = 0.1  # of a network's time: what a sum of prices leaves


class Belief(NamedTuple):
    """How far a price may be from its prior: a standard deviation as a share of it, or at least what makes up
    `part` of the time of a network that has such work."""

    spread: float
    part: float


ALONE = Belief(spread=1.0, part=0.05)  # in a roofline
WITH_EARLIER = Belief(spread=0.3, part=0.0005)  # what is new to an earlier model costs little, or it would hold it


def fit_prices(networks: Networks, measured_ms: Array, earlier: LatencyModel | None = None) -> Array:
    """A price in ms for each column of `networks.amounts`: the most probable ones that are not negative.

    That is least squares on relative errors with a normal prior for each price (ridge regression: Hoerl and Kennard
    1970). Its mean is a roofline, which has one price per common feature for float, plain-channel and int8 kernels
    each, or, closer, what the model of an `earlier` device says, on this one's scale. So what networks hold little of
    keeps a price near its prior, and does not take on what others miss. A second pass gives less weight to networks
    that fit badly: their measurement was disturbed more often than not.
    """
    amounts = networks.expected
    weights = 1 / measured_ms
    spread = _roofline(networks)
    prior = spread @ nnls((amounts @ spread) * weights[:, None], np.ones(len(weights)))[0]
    belief = ALONE
    if earlier is not None:
        prior, belief = _scaled(networks, earlier, prior, measured_ms), WITH_EARLIER
    ridge = NOISE / _deviations(prior, belief, networks.amounts * weights[:, None])
    prices: Array = prior
    for _ in range(2):
        rows = np.vstack([amounts * weights[:, None], np.diag(ridge)])
        prices = nnls(rows, np.concatenate([weights * measured_ms, ridge * prior]), maxiter=10_000)[0]
        residual = np.abs(amounts @ prices / measured_ms - 1)
        typical = max(float(np.median(residual)), 1e-3)
        weights = np.minimum(1.0, 3 * typical / np.maximum(residual, 1e-9)) / measured_ms
    return prices


def _deviations(prior: Array, belief: Belief, amounts_a_ms: Array) -> Array:
    """The standard deviation of each price. `amounts_a_ms` `[networks, columns]` are of a ms of the network's time."""
    typical = np.array([np.median(column[column > 0]) if column.any() else 1.0 for column in amounts_a_ms.T])
    deviations: Array = np.maximum(belief.spread * prior, belief.part / typical)
    return deviations


def _scaled(networks: Networks, earlier: LatencyModel, roofline: Array, measured_ms: Array) -> Array:
    """An earlier device's prices on this one's scale; those that it has not are the roofline's."""
    known = [earlier.price(kind, feature) for kind, feature in networks.columns]
    base_ms = earlier.base_ms + earlier.base_shift_ms
    prices = np.array([base_ms if base_ms > 0 else np.nan, *(np.nan if price is None else price for price in known)])
    there = ~np.isnan(prices)
    missing = networks.expected[:, ~there] @ roofline[~there]
    priced = networks.expected[:, there] @ prices[there]
    scale = float(np.median(np.maximum(measured_ms - missing, 0.1 * measured_ms) / np.maximum(priced, 1e-6)))
    scaled: Array = np.where(there, prices * scale, roofline)
    return scaled


def _roofline(networks: Networks) -> Array:
    """`[columns, 1 + roofline prices]`: which price of the roofline each column starts from; others start from 0."""
    groups = sorted({(_group(kind), feature) for kind, feature in networks.columns if feature in COMMON})
    spread = np.zeros((1 + len(networks.columns), 1 + len(groups)))
    spread[0, 0] = 1
    for row, (kind, feature) in enumerate(networks.columns, start=1):
        if feature in COMMON:
            spread[row, 1 + groups.index((_group(kind), feature))] = 1
    return spread


def _group(kind: str) -> str:
    prefix = kind.partition(".")[0]
    return prefix if prefix in ("int8", "plain") else "float"
