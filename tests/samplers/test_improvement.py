from __future__ import annotations

import numpy as np
import optuna
import pytest

from nas_edge.samplers.improvement import expected_excess, expected_hypervolume_improvement, front, hypervolume

POINTS = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 1.0], [3.0, 4.0], [2.0, 3.5], [7.0, 0.5]])
REFERENCE = np.array([6.0, 6.0])


def test_the_front_is_what_nothing_dominates() -> None:
    assert front(POINTS).tolist() == [0, 1, 2, 5]
    assert front(np.array([[1.0, 1.0], [1.0, 1.0]])).tolist() == [0]


def test_the_hypervolume_is_that_of_optuna() -> None:
    inside = POINTS[(POINTS <= REFERENCE).all(axis=1)]
    expected = optuna._hypervolume.wfg.compute_hypervolume(inside, REFERENCE)
    assert hypervolume(POINTS, REFERENCE) == pytest.approx(expected)
    assert hypervolume(np.zeros((0, 2)), REFERENCE) == 0.0


def test_the_expected_excess_is_that_of_many_draws() -> None:
    draws = np.random.default_rng(0).normal(1.0, 2.0, 400_000)
    excess = expected_excess(1.5, np.array([1.0]), np.array([2.0]))
    assert excess == pytest.approx(np.maximum(1.5 - draws, 0).mean(), rel=0.01)


@pytest.mark.parametrize("floor", [(-50.0, -50.0), (0.8, 0.8)])
def test_the_expected_improvement_is_the_mean_gain_over_many_draws(floor: tuple[float, float]) -> None:
    rng, low = np.random.default_rng(1), np.array(floor)
    means = np.array([[1.5, 2.0], [5.0, 5.0], [0.5, 0.5], [3.0, 2.0]])
    deviations = np.array([[0.5, 1.0], [0.2, 0.2], [0.4, 0.1], [1.0, 0.3]])
    found = expected_hypervolume_improvement(means, deviations, POINTS, REFERENCE, low)
    before = hypervolume(POINTS, REFERENCE)
    for mean, deviation, improvement in zip(means, deviations, found, strict=True):
        draws = np.maximum(rng.normal(mean, deviation, (6_000, 2)), low)
        gains = [hypervolume(np.vstack([POINTS, draw]), REFERENCE) - before for draw in draws]
        assert improvement == pytest.approx(np.mean(gains), rel=0.05, abs=1e-3)


def test_without_a_front_the_whole_box_is_to_be_gained() -> None:
    certain = np.full((1, 2), 1e-9)
    found = expected_hypervolume_improvement(
        np.array([[1.0, 2.0]]), certain, np.zeros((0, 2)), REFERENCE, np.array([0.0, 0.0])
    )
    assert found == pytest.approx(5 * 4)
