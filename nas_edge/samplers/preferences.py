"""One loss of many, by a preference in -1..1: from cost alone to quality alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nas_edge.samplers.history import History, quality_and_cost

Array = npt.NDArray[np.float64]
WORST = 1.5  # in units of the range of the better nine tenths
SLACK = 0.05
GOLDEN = (math.sqrt(5) - 1) / 2


def normalised(history: History, rng: np.random.Generator) -> Array:
    """Losses `[count, 1 or 2]` in units of the range of the better nine tenths; what misses a constraint has the worst.

    Of two, the first is that of cost and the second that of quality. NaN where a trial has no values.
    """
    losses = history.losses
    if losses.shape[1] > 1:
        losses = quality_and_cost(losses, history.maximised, rng)
    finite = losses[history.finished]
    low = finite.min(axis=0)
    high = 2 * np.median(finite, axis=0) - low
    scaled: Array = np.minimum((losses - low) / np.where(high > low, high - low, 1.0), WORST)
    scaled[history.finished & ~history.feasible] = WORST
    return scaled


def scalarised(losses: Array, preference: float) -> Array:
    """The augmented Chebyshev norm of normalised losses, weighed by the preference (Knowles 2006, equation 2)."""
    weighed = losses * _weights(losses, preference)
    norms: Array = weighed.max(axis=1) + SLACK * weighed.sum(axis=1)
    return norms


def scalarised_slopes(losses: Array, preference: float) -> Array:
    """The derivatives of the scalarised losses by each loss, of the same shape."""
    weights = _weights(losses, preference)
    weighed = losses * weights
    slopes: Array = weights * ((weighed == weighed.max(axis=1, keepdims=True)) + SLACK)
    return slopes


def _weights(losses: Array, preference: float) -> Array:
    return np.ones(1) if losses.shape[1] == 1 else np.array([1 - preference, 1 + preference]) / 2


def spread_preference(index: int) -> float:
    """That of a trial, evenly spread over any number of trials."""
    return 2 * ((index * GOLDEN) % 1.0) - 1
