"""Gaussian process regression (Rasmussen & Williams 2006, chapters 2 and 5) on candidates of a search.

The kernel is `variance * exp(-sum_i weight_i d_i)`, where d_i is the distance of two candidates in one parameter (see
`parameters.Features`): each parameter has a weight of its own, found with the noise by maximum a posteriori.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Array = npt.NDArray[np.float64]
JITTER = 1e-6
TOTAL_WEIGHT = 2.0  # a priori: of all parameters together
WEIGHT_SPREAD, VARIANCE_SPREAD, NOISE_SPREAD = 1.0, 1.0, 1.5  # a priori, of the logarithms
USUAL_NOISE = 0.01
MAX_STEPS = 30
BOUND = 4.0  # of the logarithms, from the start: without noise the likelihood may have no top


@dataclass(frozen=True)
class Kernel:
    """`weights` of the parameters, and the `variance` and `noise` of standardised values."""

    weights: Array
    variance: float
    noise: float

    def between(self, one: Array, other: Array, owner: npt.NDArray[np.int64]) -> Array:
        """The covariances of two sets of points `[count, features]`."""
        scale = np.sqrt(self.weights)[owner]
        one, other = one * scale, other * scale
        squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
        covariances: Array = self.variance * np.exp(-np.maximum(squares, 0.0))
        return covariances


class GaussianProcess:
    """The posterior of one function, given noisy values of it."""

    def __init__(self, points: Array, values: Array, owner: npt.NDArray[np.int64], kernel: Kernel) -> None:
        self._points, self._owner, self._kernel = points, owner, kernel
        self.mean, self.scale = float(values.mean()), float(values.std()) or 1.0
        covariances = kernel.between(points, points, owner)
        covariances[np.diag_indices(len(points))] += kernel.noise + JITTER * kernel.variance
        self._factor = np.linalg.cholesky(covariances)
        self._weights = cho_solve((self._factor, True), (values - self.mean) / self.scale)

    def predict(self, points: Array, *, noise: bool = True) -> tuple[Array, Array]:
        """Means and standard deviations at points: of what would be observed, or without `noise` of the function."""
        covariances = self._kernel.between(points, self._points, self._owner)
        explained = (solve_triangular(self._factor, covariances.T, lower=True) ** 2).sum(axis=0)
        variances = self._kernel.variance - explained + (self._kernel.noise if noise else 0.0)
        means = self.mean + self.scale * (covariances @ self._weights)
        return means, self.scale * np.sqrt(np.maximum(variances, 1e-10))

    def slopes(self, points: Array) -> tuple[Array, Array]:
        """Means at points `[count, features]`, and their derivatives by each feature."""
        covariances = self._kernel.between(points, self._points, self._owner) * self._weights
        sums = covariances.sum(axis=1)
        weights = self._kernel.weights[self._owner]
        derivatives = 2 * weights * (covariances @ self._points - points * sums[:, None])
        return self.mean + self.scale * sums, self.scale * derivatives


def fit_kernel(points: Array, values: Array, owner: npt.NDArray[np.int64]) -> Kernel:
    """The most probable kernel for values at points `[count, features]`, `owner` naming each feature's parameter."""
    count, parameters = len(points), int(owner.max(initial=-1)) + 1
    scale = float(values.std()) or 1.0
    standard = (values - values.mean()) / scale
    distances = np.stack([_squares(points[:, owner == i]).ravel() for i in range(parameters)])
    start = np.full(parameters + 2, math.log(TOTAL_WEIGHT / max(1, parameters)))
    start[-2:] = 0.0, math.log(USUAL_NOISE)
    spreads = np.full(parameters + 2, WEIGHT_SPREAD)
    spreads[-2:] = VARIANCE_SPREAD, NOISE_SPREAD
    identity = np.eye(count)

    def loss(logs: Array) -> tuple[float, Array]:
        """The negative log of the posterior and its gradient (equations 5.8 and 5.9)."""
        weights, variance, noise = np.exp(logs[:-2]), math.exp(logs[-2]), math.exp(logs[-1])
        signal = variance * np.exp(-(weights @ distances)).reshape(count, count)
        try:
            factor = cho_factor(signal + (noise + JITTER * variance) * identity, lower=True)
        except LinAlgError:
            return 1e10, np.zeros_like(logs)
        solved, inverse = cho_solve(factor, standard), cho_solve(factor, identity)
        slope = 0.5 * (inverse - np.outer(solved, solved))
        along = slope * signal
        gradient = np.concatenate(
            [-(distances @ along.ravel()) * weights, [along.sum()], [float(np.trace(slope)) * noise]]
        )
        likelihood = 0.5 * float(standard @ solved) + float(np.log(np.diag(factor[0])).sum())
        away = (logs - start) / spreads
        return likelihood + 0.5 * float(away @ away), gradient + away / spreads

    bounds = [(at - BOUND, at + BOUND) for at in start]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MAX_STEPS})
    return Kernel(np.exp(found.x[:-2]), math.exp(found.x[-2]), math.exp(found.x[-1]))


def _squares(points: Array) -> Array:
    """Squared distances between all points."""
    lengths = (points**2).sum(axis=1)
    squares: Array = np.maximum(lengths[:, None] + lengths[None] - 2 * points @ points.T, 0.0)
    return squares
