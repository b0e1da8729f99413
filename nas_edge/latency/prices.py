"""Prices of work from the latencies of whole networks: least squares without negative prices."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from nas_edge.latency.model import Array, LatencyModel
from nas_edge.latency.networks import Networks

COMMON = ("calls", "mega_macs", "kilobytes", "weight_kilobytes")  # work that a roofline prices alike in all kinds
SHRINKAGE = 0.02  # towards the roofline, per network
SHRINKAGE_TO_EARLIER = 0.1  # towards the prices of a similar device


def fit_prices(networks: Networks, measured_ms: Array, earlier: LatencyModel | None = None) -> Array:
    """A price in ms for each column of `networks.amounts`, minimising the squared relative error.

    Shrunk towards a roofline, which has one price per common feature for float, plain-channel and int8 kernels each:
    it speaks where a kind was seen too rarely to be told apart. A second pass gives less weight to networks that fit
    badly: their measurement was disturbed more often than not. With the model of an `earlier` device the prices are
    shrunk towards that one's instead, scaled to this device, and more strongly.
    """
    amounts = networks.expected
    weights = 1 / measured_ms
    spread = _roofline(networks)
    prior = spread @ nnls((amounts @ spread) * weights[:, None], np.ones(len(weights)))[0]
    shrinkage = SHRINKAGE
    if earlier is not None:
        prior, shrinkage = _scaled(networks, earlier, prior, measured_ms), SHRINKAGE_TO_EARLIER
    prices: Array = prior
    for _ in range(2):
        rows = amounts * weights[:, None]
        ridge = np.sqrt(shrinkage * np.sum(rows**2, axis=0)) + 1e-9
        prices = nnls(
            np.vstack([rows, np.diag(ridge)]), np.concatenate([weights * measured_ms, ridge * prior]), maxiter=10_000
        )[0]
        residual = np.abs(amounts @ prices / measured_ms - 1)
        typical = max(float(np.median(residual)), 1e-3)
        weights = np.minimum(1.0, 3 * typical / np.maximum(residual, 1e-9)) / measured_ms
    return prices


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
