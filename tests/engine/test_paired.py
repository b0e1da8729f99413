"""The gain of one model over another on the same images."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas_edge.engine.paired import gain


def test_it_is_that_of_mcnemar() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.random(500) < 0.9, rng.random(500) < 0.92
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    gained, error = gain(before, after)
    assert gained == pytest.approx((won - lost) / 500)
    assert error == pytest.approx(math.sqrt(won + lost - (won - lost) ** 2 / 500) / 500)


def test_models_that_agree_differ_by_nothing_for_certain() -> None:
    right = np.array([True, False, True])
    assert gain(right, right) == (0.0, 0.0)
