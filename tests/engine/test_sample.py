"""Candidates from trials."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import optuna
import pytest

from nas_edge import Scope, SearchSpace, Technique
from nas_edge.engine.sample import RandomTrial, suggest_spec


@dataclass(frozen=True)
class Config:
    strength: float = 0.5


class Squeeze(Technique):
    name = "squeeze"
    version = 3
    config_type = Config

    def suggest(self, scope: Scope) -> Config:
        return Config(scope.suggest_float("strength", 0.1, 0.9))


class Plain(SearchSpace):
    name = "plain"
    version = 2

    def suggest(self, scope: Scope) -> dict[str, Any]:
        return {"width": scope.suggest_int("width", 8, 64, step=8), "deep": scope.within("tail").suggest_int("n", 1, 3)}


def test_a_spec_names_its_parameters_after_their_owners() -> None:
    given = {
        "plain.width": 16,
        "plain.tail.n": 2,
        "squeeze.enabled": True,
        "squeeze.strength": 0.25,
    }
    spec = suggest_spec(optuna.trial.FixedTrial(given), Plain(), [Squeeze()])
    assert spec.to_json() == {
        "arch": {"space": "plain", "version": 2, "params": {"width": 16, "deep": 2}},
        "steps": [{"technique": "squeeze", "version": 3, "config": {"strength": 0.25}}],
    }


def test_a_technique_that_is_off_samples_nothing() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"squeeze.enabled": False})
    trial = study.ask()
    assert suggest_spec(trial, Plain(), [Squeeze()]).steps == ()
    assert set(trial.params) == {"plain.width", "plain.tail.n", "squeeze.enabled"}


@pytest.mark.parametrize("log", [False, True])
def test_random_draws_stay_in_their_range_and_reach_its_ends(log: bool) -> None:
    draws = [RandomTrial(seed).suggest_int("n", 2, 5, log=log) for seed in range(400)]
    counts = Counter(draws)
    assert set(counts) == {2, 3, 4, 5}
    if log:  # the probability of 2 is log(3 / 2) / log(6 / 2) = 0.37, that of 5 is log(6 / 5) / log(3) = 0.17
        assert counts[2] / 400 == pytest.approx(0.369, abs=0.08)
        assert counts[5] / 400 == pytest.approx(0.166, abs=0.08)
    else:
        assert all(count / 400 == pytest.approx(0.25, abs=0.08) for count in counts.values())
    floats = [RandomTrial(seed).suggest_float("x", 0.01, 1.0, log=log) for seed in range(400)]
    assert all(0.01 <= x <= 1.0 for x in floats)
    assert sum(x < 0.1 for x in floats) / 400 == pytest.approx(0.5 if log else 0.09, abs=0.08)
    assert {RandomTrial(seed).suggest_int("n", 8, 64, step=8) % 8 for seed in range(50)} == {0}
    stepped = {RandomTrial(seed).suggest_float("x", 0.0, 1.0, step=0.25) for seed in range(200)}
    assert stepped == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_a_random_trial_repeats_itself() -> None:
    trial = RandomTrial(0)
    first = trial.suggest_categorical("kind", list(range(1000)))
    assert trial.suggest_categorical("kind", list(range(1000))) == first
    assert RandomTrial(0).suggest_categorical("kind", list(range(1000))) == first
    assert RandomTrial(1).suggest_categorical("kind", list(range(1000))) != first
