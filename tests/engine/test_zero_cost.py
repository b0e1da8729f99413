"""A score before training counts for as much as it is seen to rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial
from scipy.stats import kendalltau

from nas_edge import UserError
from nas_edge.engine import zero_cost
from nas_edge.engine.zero_cost import SCORES, describe, plausible_accuracy, rankings
from nas_edge.plugins import Registry

from ..studies import Said, search, tiny_config


def finished(scored: Sequence[tuple[float, float, float]]) -> list[FrozenTrial]:
    """Trials of two scores and an accuracy."""
    return [
        optuna.create_trial(values=[accuracy, 1.0], user_attrs={SCORES: {"good": good, "idle": idle}})
        for good, idle, accuracy in scored
    ]


@pytest.fixture
def trials() -> list[FrozenTrial]:
    """The first score ranks but for noise, the second by chance alone."""
    rng = np.random.default_rng(0)
    good = rng.normal(size=30)
    return finished(list(zip(good, rng.normal(size=30), 0.8 + 0.05 * good + rng.normal(0, 0.01, 30), strict=True)))


def test_the_rankings_are_those_of_scipy(trials: list[FrozenTrial]) -> None:
    good, idle = rankings(trials)
    assert (good.score, idle.score) == ("good", "idle") and good.usable and not idle.usable
    expected = kendalltau([t.user_attrs[SCORES]["good"] for t in trials], [t.values[0] for t in trials])
    assert good.tau == pytest.approx(expected.statistic) and good.p_value == pytest.approx(expected.pvalue)
    said = describe(trials)
    assert said is not None and said.endswith("good is used") and f"good {good.tau:.2f}, idle {idle.tau:.2f}" in said


def test_what_is_plausible_follows_the_best_score(trials: list[FrozenTrial]) -> None:
    at = [plausible_accuracy(trials, {"good": score, "idle": 9.0}, 2.0) for score in (-1.0, 0.0, 1.0)]
    assert at == pytest.approx([0.75 + 0.02, 0.8 + 0.02, 0.85 + 0.02], abs=0.015)
    assert plausible_accuracy(trials, {"good": 99.0, "idle": 0.0}, 50.0) == 1.0


def test_a_score_that_does_not_rank_is_not_used(trials: list[FrozenTrial]) -> None:
    idle = finished([(t.user_attrs[SCORES]["idle"], 1.0, t.values[0]) for t in trials])
    assert plausible_accuracy(idle, {"good": -9.0, "idle": 1.0}, 0.0) == 1.0
    said = describe(idle)
    assert said is not None and said.endswith("none is used")
    assert rankings(trials[: zero_cost.LEAST - 1]) == [] and describe(trials[:9]) is None


def test_a_search_keeps_its_scores_and_says_how_they_rank(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zero_cost, "LEAST", 4)
    said = Said()
    stored = search(tiny_config(tmp_path, trials=4, zero_cost=True, audit_trials=0), tiny, said)
    for trial in stored.evaluated():
        scores = trial.user_attrs[SCORES]
        assert set(scores) == {"synflow", "naswot", "macs", "parameters"} and scores["macs"] > 0
    assert sum("scores before training rank 4 trained accuracies" in line for line in said.said) == 1
    with pytest.raises(UserError, match="zero_cost takes part in latency_first"):
        tiny_config(tmp_path, zero_cost=True, latency_first=False)
