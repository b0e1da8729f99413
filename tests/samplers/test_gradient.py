"""The relaxation that the gradient sampler descends, against numeric derivatives and known optima."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from nas_edge.samplers.gradient import Relaxation, descend
from nas_edge.samplers.history import History
from nas_edge.samplers.preferences import normalised, scalarised, scalarised_slopes
from nas_edge.samplers.surrogate import regression


@pytest.fixture(scope="module")
def history() -> History:
    """Cost is that of the kinds and of the width; quality is best for kind c, and for as much width as may be."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0))

    def values(trial: optuna.Trial) -> tuple[float, float]:
        kind = trial.suggest_categorical("kind", ["a", "b", "c"])
        width, ratio = trial.suggest_int("width", 1, 9), trial.suggest_float("ratio", 0, 1)
        cost = {"a": 0.0, "b": 4.0, "c": 3.0}[kind] + width
        return {"a": 0.2, "b": 0.4, "c": 0.9}[kind] + width / 20 - (ratio - 0.3) ** 2, cost

    study.optimize(values, n_trials=60)
    return History.of(study)


def test_a_relaxed_row_is_nearly_the_row(history: History) -> None:
    relaxation, rows = Relaxation(history.parameters), history.rows[:9]
    shares = relaxation.shares(relaxation.logits(rows))
    owner = history.parameters.features.owner
    for i, parameter in enumerate(history.parameters.all):
        own = shares[:, owner == i]
        if parameter.is_categorical:
            assert own.sum(axis=1) == pytest.approx(1.0)
            assert (own.argmax(axis=1) == rows[:, i]).all()
        else:
            assert own[:, 0] == pytest.approx(np.clip(rows[:, i], 0.02, 0.98))
    sharp = np.where(relaxation.logits(rows) > 0, 50.0, -50.0)
    again = relaxation.draw(sharp, np.random.default_rng(0))
    kinds = [i for i, p in enumerate(history.parameters.all) if p.is_categorical]
    np.testing.assert_array_equal(again[:, kinds], rows[:, kinds])


def test_the_derivatives_by_the_logits_are_the_numeric_ones(history: History) -> None:
    relaxation, rng = Relaxation(history.parameters), np.random.default_rng(1)
    logits = rng.normal(size=(4, len(history.parameters.features.owner)))
    along = rng.normal(size=logits.shape)
    found, step = relaxation.backward(logits, along), 1e-6
    for k in range(logits.shape[1]):
        shift = step * np.eye(logits.shape[1])[k]
        change = relaxation.points(logits + shift) - relaxation.points(logits - shift)
        assert found[:, k] == pytest.approx((along * change).sum(axis=1) / (2 * step), abs=1e-6)


def test_the_slopes_of_the_preference_are_the_numeric_ones() -> None:
    losses, step = np.random.default_rng(2).random((5, 2)), 1e-6
    for preference in (-0.8, 0.0, 0.5):
        slopes = scalarised_slopes(losses, preference)
        for k in range(2):
            shift = step * np.eye(2)[k]
            numeric = (scalarised(losses + shift, preference) - scalarised(losses - shift, preference)) / (2 * step)
            assert slopes[:, k] == pytest.approx(numeric, abs=1e-6)


@pytest.mark.parametrize(("preference", "kind", "wide"), [(0.95, "c", True), (-0.95, "a", False)])
def test_a_descent_ends_where_the_preference_lies(history: History, preference: float, kind: str, wide: bool) -> None:
    """For quality the kind that is best and all the width; for cost the cheapest and the least."""
    relaxation = Relaxation(history.parameters)
    losses = normalised(history, np.random.default_rng(0))
    processes = [regression(history, history.finished, values) for values in losses.T]
    start = relaxation.logits(history.parameters.random(np.random.default_rng(0), 12))
    ended = descend(start, relaxation, processes, preference)
    before, after = (
        scalarised(np.stack([p.predict(relaxation.points(at))[0] for p in processes], axis=1), preference)
        for at in (start, ended)
    )
    assert (after < before).all()
    best = relaxation.shares(ended)[after.argmin()]
    owner = history.parameters.features.owner
    named = {p.name: best[owner == i] for i, p in enumerate(history.parameters.all)}
    assert ["a", "b", "c"][int(named["kind"].argmax())] == kind
    assert (named["width"][0] > 0.6) == wide
