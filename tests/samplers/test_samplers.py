"""The samplers that propose whole candidates, in plain Optuna studies."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

import nas_edge
from nas_edge.samplers.history import UNDONE, History, pareto_ranks, quality_and_cost
from nas_edge.samplers.improvement import hypervolume
from nas_edge.testing import conditional

OURS = ("surrogate", "evolution", "reinforce", "gradient")
LAYERS = 7
UP, DOWN = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE


def layered(trial: optuna.Trial) -> tuple[float, float]:
    """Accuracy and cost of a chain of layers: costly kinds help, and the more the earlier they stand."""
    kinds = [trial.suggest_categorical(f"layer{i}", list("abcd")) for i in range(LAYERS)]
    help_ = {"a": 0.0, "b": 0.4, "c": 0.7, "d": 0.6}
    cost = {"a": 0.1, "b": 1.0, "c": 2.0, "d": 1.2}
    gain = sum(help_[kind] / (1 + i) ** 0.5 for i, kind in enumerate(kinds))
    clash = sum(0.15 for one, other in itertools.pairwise(kinds) if one == other == "d")
    return 1 - float(np.exp(-gain + clash)), sum(cost[kind] for kind in kinds)


def reached(sampler: str, seed: int, trials: int) -> float:
    """The hypervolume of so many evaluations."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=nas_edge.sampler(sampler, seed=seed))
    study.optimize(layered, n_trials=trials)
    points = np.array([[t.values[1], -t.values[0]] for t in study.trials])
    return hypervolume(points, np.array([12.0, -0.7]))


@pytest.mark.parametrize("name", OURS)
def test_it_finds_more_than_random_search_at_the_same_budget(name: str) -> None:
    seeds = range(3)
    ours = statistics.mean(reached(name, seed, 60) for seed in seeds)
    assert ours > statistics.mean(reached("random", seed, 60) for seed in seeds)


@pytest.mark.parametrize("other", ["tpe", "nsga2"])
def test_the_default_finds_more_than_samplers_of_optuna(other: str) -> None:
    seeds = range(2)
    ours = statistics.mean(reached("surrogate", seed, 50) for seed in seeds)
    assert ours > statistics.mean(reached(other, seed, 50) for seed in seeds)


@pytest.mark.parametrize("name", OURS)
def test_nothing_is_proposed_twice_until_all_was_tried(name: str) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=nas_edge.sampler(name))
    study.optimize(
        lambda t: (float(t.suggest_int("n", 0, 4)), float(t.suggest_categorical("c", [1, 2, 3, 4, 5, 6]))), n_trials=30
    )
    assert len({tuple(t.params.items()) for t in study.trials}) == 30
    study.optimize(
        lambda t: (float(t.suggest_int("n", 0, 4)), float(t.suggest_categorical("c", [1, 2, 3, 4, 5, 6]))), 2
    )


@pytest.mark.parametrize("name", OURS)
def test_conditions_are_kept_to(name: str) -> None:
    study = conditional.study(nas_edge.sampler(name, seed=1), 40)
    assert all(t.state is TrialState.COMPLETE for t in study.trials)
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == 40


@pytest.mark.parametrize("name", OURS)
def test_the_state_is_rebuilt_from_what_is_stored(name: str, tmp_path: Path) -> None:
    """A study whose sampler is made anew for each trial, as after a restart, gets the same trials."""
    whole = optuna.create_study(directions=["maximize", "minimize"], sampler=nas_edge.sampler(name, seed=5))
    whole.optimize(conditional.objectives, n_trials=26)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.create_study(directions=["maximize", "minimize"], study_name="parts", storage=storage)
    for _ in range(26):
        again = optuna.load_study(study_name="parts", storage=storage, sampler=nas_edge.sampler(name, seed=5))
        again.optimize(conditional.objectives, n_trials=1)
    parts = optuna.load_study(study_name="parts", storage=storage)
    first = next(i for i, t in enumerate(whole.trials) if len(t.params))
    assert [t.params for t in parts.trials][first + 1 :] == [t.params for t in whole.trials][first + 1 :]


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("directions", [[DOWN], [DOWN, DOWN], [UP, DOWN, DOWN]])
def test_any_number_of_objectives(name: str, directions: list[StudyDirection]) -> None:
    def bowls(trial: optuna.Trial) -> list[float]:
        x, y = trial.suggest_float("x", -2, 2), trial.suggest_float("y", -2, 2)
        centres = (0.0, 1.0, -1.0)[: len(directions)]
        values = [(x - c) ** 2 + (y - c) ** 2 for c in centres]
        return [-v if d == UP else v for v, d in zip(values, directions, strict=True)]

    study = optuna.create_study(directions=directions, sampler=nas_edge.sampler(name, seed=0))
    study.optimize(bowls, n_trials=40)
    assert min(abs(t.values[0]) for t in study.trials) < 0.3


def test_constraints_are_learned() -> None:
    """Only where x + y >= 1 is allowed; most proposals keep to that, and half of random ones would."""

    def constrained(trial: optuna.Trial) -> tuple[float, float]:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("corner", 1 - x - y)
        return 1 - x, 1 - y**2

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=nas_edge.sampler("surrogate", seed=0))
    study.optimize(constrained, n_trials=50)
    proposed = study.trials[16:]
    assert statistics.mean(t.constraints["corner"] <= 0.02 for t in proposed) > 0.8


def test_what_is_only_to_be_good_enough_is_no_objective() -> None:
    """The best quality lies where its cost is all that is allowed, and only there it is looked for."""

    def bounded(trial: optuna.Trial) -> tuple[float, float]:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("cost", x + y - 1)
        return x - 2 * (y - 0.7) ** 2, x + y  # at most 0.425, at 0.55 and 0.45

    best = {}
    for name in ("constrained", "surrogate"):
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=nas_edge.sampler(name, seed=0))
        study.optimize(bounded, n_trials=60)
        allowed = [t for t in study.trials if t.constraints["cost"] <= 0]
        best[name] = max(t.values[0] for t in allowed)
        if name == "constrained":
            assert statistics.mean(abs(t.params["x"] + t.params["y"] - 1) < 0.1 for t in study.trials[40:]) > 0.6
    assert best["constrained"] > max(0.42, best["surrogate"])


def shrunk(trial: optuna.Trial) -> tuple[float, float]:
    """A technique gains up to a ratio of 0.5; what is beyond is undone, and the values are those without it."""
    base = trial.suggest_int("base", 1, 40)
    ratio = trial.suggest_float("cut.ratio", 0, 1) if trial.suggest_categorical("cut.enabled", [True, False]) else 0.0
    if ratio > 0.5:
        trial.set_user_attr(UNDONE, ["cut"])
        ratio = 0.0
    return 1 - 1 / base - ratio**2, base * (1 - ratio)


def test_what_was_undone_counts_as_off() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    cut = {"cut.enabled": True, "cut.ratio": 0.8}
    for params in (
        {"base": 9, **cut},
        {"base": 4, "cut.enabled": False},
        {"base": 2, "cut.enabled": True, "cut.ratio": 0.2},
    ):
        study.enqueue_trial(params)
    study.optimize(shrunk, n_trials=3)
    history = History.of(study)
    off, as_asked = history.parameters.encode([{"base": 9, "cut.enabled": False}, {"base": 9, **cut}])
    np.testing.assert_array_equal(history.rows[0], off)
    np.testing.assert_array_equal(history.rows[3], as_asked)
    assert history.losses[0].tolist() == [pytest.approx(-8 / 9), 9.0] and np.isnan(history.losses[3]).all()
    assert history.feasible.tolist() == [True, True, True, False] and not history.running.any()
    assert len(history.unseen(np.stack([off, as_asked]))) == 0


def test_what_is_undone_is_avoided() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=nas_edge.sampler("surrogate", seed=0))
    study.optimize(shrunk, n_trials=110)
    proposed = study.trials[50:]
    assert statistics.mean(bool(t.user_attrs.get(UNDONE)) for t in proposed) < 0.18  # at random a quarter
    assert statistics.mean(t.params["cut.enabled"] for t in proposed) > 0.6


def test_trials_in_other_hands_are_not_proposed_again() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=nas_edge.sampler("surrogate", seed=0))
    study.optimize(layered, n_trials=20)
    asked = []
    for _ in range(6):  # all at once
        trial = study.ask()
        asked.append(tuple(trial.suggest_categorical(f"layer{i}", list("abcd")) for i in range(LAYERS)))
    assert len(set(asked)) == 6


def test_the_history_is_read_as_losses() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    for x, values in ((1, [0.9, 5.0]), (2, [0.8, 3.0])):
        study.add_trial(
            optuna.trial.create_trial(
                params={"x": x},
                distributions={"x": optuna.distributions.IntDistribution(0, 4)},
                values=values,
                constraints={"a": -1.0, "b": float(x) - 1.5},
            )
        )
    study.ask({"x": optuna.distributions.IntDistribution(0, 4)})
    history = History.of(study)
    assert history.losses[:2].tolist() == [[-0.9, 5.0], [-0.8, 3.0]] and np.isnan(history.losses[2]).all()
    assert history.feasible.tolist() == [True, False, True]
    assert history.finished.tolist() == [True, True, False] and history.running.tolist() == [False, False, True]
    assert quality_and_cost(history.losses, history.maximised, np.random.default_rng(0))[:2].tolist() == [
        [5.0, -0.9],
        [3.0, -0.8],
    ]


def test_values_that_are_not_finite_count_as_none() -> None:
    def sometimes_endless(trial: optuna.Trial) -> tuple[float, float]:
        accuracy, cost = layered(trial)
        return accuracy, float("inf") if trial.number % 7 == 6 else cost

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=nas_edge.sampler("surrogate", seed=0))
    study.optimize(sometimes_endless, n_trials=40)
    history = History.of(study)
    assert history.finished.tolist() == [number % 7 != 6 for number in range(40)]
    assert np.isnan(history.losses[~history.finished]).all()


def test_many_costs_are_weighed_into_one() -> None:
    losses = np.array([[-0.9, 2.0, 100.0], [-0.8, 4.0, 300.0], [-0.7, 6.0, 200.0]])
    two = quality_and_cost(losses, (True, False, False), np.random.default_rng(0))
    assert two[:, 1].tolist() == [-0.9, -0.8, -0.7]
    scaled = losses[:, 1:] / losses[:, 1:].std(axis=0)
    low, high = scaled.min(axis=1), scaled.max(axis=1)
    assert ((low <= two[:, 0]) & (two[:, 0] <= high)).all()


def test_ranks_are_those_of_nsga2() -> None:
    losses = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 1.0], [3.0, 4.0], [5.0, 5.0]])
    assert pareto_ranks(losses).tolist() == [0, 0, 0, 1, 2]
