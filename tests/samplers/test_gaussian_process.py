from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from nas_edge.samplers.gaussian_process import GaussianProcess, Kernel, fit_kernel

OWNER = np.arange(2)


def points(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 2))


def test_the_posterior_is_that_of_scikit_learn() -> None:
    """Whose kernel exp(-d^2 / 2 l^2) has the weights 1 / 2 l^2."""
    x, y = points(30, 0), np.sin(5 * points(30, 0)).sum(axis=1)
    lengths = np.array([0.5, 0.2])
    other = GaussianProcessRegressor(RBF(lengths), alpha=0.01, optimizer=None, normalize_y=True).fit(x, y)
    ours = GaussianProcess(x, y, OWNER, Kernel(1 / (2 * lengths**2), 1.0, 0.01))
    means, deviations = ours.predict(points(8, 1), noise=False)
    expected_means, expected_deviations = other.predict(points(8, 1), return_std=True)
    assert means == pytest.approx(expected_means, abs=1e-4)
    assert deviations == pytest.approx(expected_deviations, abs=1e-4)


def test_noise_is_part_of_what_would_be_observed() -> None:
    x = points(30, 0)
    process = GaussianProcess(x, x.sum(axis=1), OWNER, Kernel(np.array([1.0, 1.0]), 1.0, 0.25))
    function, observed = (process.predict(x[:3], noise=noise)[1] for noise in (False, True))
    assert observed**2 - function**2 == pytest.approx(0.25 * process.scale**2)


def test_one_weight_counts_for_all_features_of_a_parameter() -> None:
    kernel = Kernel(np.array([2.0]), 1.5, 0.1)
    covariance = kernel.between(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]), np.zeros(2, dtype=np.int64))
    assert covariance == pytest.approx(1.5 * np.exp(-4))


def test_the_fitted_kernel_knows_noise_and_what_does_not_matter() -> None:
    rng, x = np.random.default_rng(0), np.random.default_rng(1).random((150, 3))
    y = np.sin(6 * x[:, 0]) + 2 * x[:, 1] + rng.normal(0, 0.2, 150)  # the third does nothing
    kernel = fit_kernel(x, y, np.arange(3))
    assert kernel.noise * y.var() == pytest.approx(0.04, rel=0.4)
    assert kernel.weights[2] < 0.3 * kernel.weights[0]
    means, _ = GaussianProcess(x, y, np.arange(3), kernel).predict(x, noise=False)
    assert np.sqrt(np.mean((means - np.sin(6 * x[:, 0]) - 2 * x[:, 1]) ** 2)) < 0.1


def test_the_fitted_kernel_is_more_probable_than_its_neighbours() -> None:
    """By the density of a multivariate normal, with the priors."""
    x = points(40, 2)
    y = np.cos(4 * x[:, 0]) + 0.1 * np.random.default_rng(3).normal(size=40)
    standard = (y - y.mean()) / y.std()

    def posterior(logs: np.ndarray) -> float:
        kernel = Kernel(np.exp(logs[:2]), float(np.exp(logs[2])), float(np.exp(logs[3])))
        covariance = kernel.between(x, x, OWNER) + (kernel.noise + 1e-6 * kernel.variance) * np.eye(40)
        away = (logs - np.log([1.0, 1.0, 1.0, 0.01])) / np.array([1.0, 1.0, 1.0, 1.5])
        return float(multivariate_normal(np.zeros(40), covariance).logpdf(standard)) - 0.5 * float(away @ away)

    found = fit_kernel(x, y, OWNER)
    at = np.log([*found.weights, found.variance, found.noise])
    for step in np.eye(4) * 0.3:
        assert posterior(at) > max(posterior(at + step), posterior(at - step))


def test_constant_values_are_predicted_as_they_are() -> None:
    x, y = points(10, 0), np.full(10, 3.0)
    means, deviations = GaussianProcess(x, y, OWNER, fit_kernel(x, y, OWNER)).predict(points(4, 1))
    assert means == pytest.approx(3.0) and np.isfinite(deviations).all()


def test_the_slopes_are_those_of_the_means() -> None:
    x = points(30, 0)
    process = GaussianProcess(x, np.sin(5 * x).sum(axis=1), OWNER, Kernel(np.array([4.0, 9.0]), 1.0, 0.01))
    at, step = points(6, 3), 1e-5
    means, slopes = process.slopes(at)
    assert means == pytest.approx(process.predict(at)[0])
    for k in range(2):
        shift = step * np.eye(2)[k]
        numeric = (process.predict(at + shift)[0] - process.predict(at - shift)[0]) / (2 * step)
        assert slopes[:, k] == pytest.approx(numeric, abs=1e-4)
