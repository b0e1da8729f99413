"""Shape corrections with few centres."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nas_edge.latency.model import SHAPE_SCALE, ShapeCorrection, alike
from nas_edge.latency.shares import CENTRES, condensed, spread_out

Array = npt.NDArray[np.float64]


def shapes(count: int) -> Array:
    return np.random.default_rng(2).uniform(2, 9, (count, 4))


def test_few_shapes_are_kept_as_they_are() -> None:
    unique, random = shapes(CENTRES // 2), np.random.default_rng(3)
    weights, parts = random.normal(0, 0.1, len(unique)), random.uniform(0.5, 1, len(unique))
    found = condensed(unique, weights, parts)
    exact = 0.3 * weights.sum() + alike(unique, unique, SHAPE_SCALE) @ weights
    assert len(found.centres) == len(unique)
    assert found.at(unique)[0] == pytest.approx(exact, abs=1e-3)
    assert found.at(unique)[1] == pytest.approx(np.zeros(len(unique)), abs=1e-3)


def test_many_shapes_are_told_closely_by_few() -> None:
    unique, random = shapes(10 * CENTRES), np.random.default_rng(4)
    weights, parts = random.normal(0, 0.1, len(unique)), random.uniform(0.5, 1, len(unique))
    found = condensed(unique, weights, parts)
    exact = 0.3 * weights.sum() + alike(unique, unique, SHAPE_SCALE) @ weights
    assert len(found.centres) == CENTRES
    assert np.abs(found.at(unique)[0] - exact).max() < 0.05 * np.ptp(exact)


def test_chosen_points_are_far_apart() -> None:
    points = np.array([[0.0], [0.1], [10.0], [0.2], [5.0]])
    assert spread_out(points, 3) == [0, 2, 4]
    assert sorted(spread_out(points, 9)) == [0, 1, 2, 3, 4]


def test_corrections_add_up() -> None:
    random = np.random.default_rng(5)
    first, second = (
        ShapeCorrection(c, shapes(n)[-n // 2 :], random.normal(0, 0.1, n // 2)) for c, n in ((0.1, 8), (-0.3, 20))
    )
    logs = shapes(30)
    assert first.plus(second).at(logs)[0] == pytest.approx(first.at(logs)[0] + second.at(logs)[0])
    assert (first.plus(second).at(logs)[1] <= first.at(logs)[1]).all()
    assert first.plus(None) is first
