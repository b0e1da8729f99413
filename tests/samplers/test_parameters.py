from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas_edge.samplers.parameters import Parameter, Parameters, keys
from nas_edge.testing import conditional

VALUES: list[tuple[BaseDistribution, list[Any]]] = [
    (CategoricalDistribution(["a", 1, True, None]), ["a", 1, None]),
    (IntDistribution(3, 7, step=2), [3, 5, 7]),
    (IntDistribution(1, 1000, log=True), [1, 10, 999, 1000]),
    (FloatDistribution(0.75, 1.25, step=0.25), [0.75, 1.0, 1.25]),
    (FloatDistribution(0.0, 0.6, step=0.1), [0.0, 0.1, 0.3, 0.6]),
    (FloatDistribution(-2.0, 6.0), [-2.0, 1.5, 6.0]),
    (FloatDistribution(0.01, 100.0, log=True), [0.01, 1.0, 100.0]),
]


@pytest.mark.parametrize(("distribution", "values"), VALUES)
def test_a_value_comes_back_from_its_number(distribution: BaseDistribution, values: list[Any]) -> None:
    parameter = Parameter("p", distribution)
    for value in values:
        assert parameter.decode(parameter.encode(value)) == pytest.approx(value) if value else True
        assert parameter.encode(parameter.decode(parameter.encode(value))) == parameter.encode(value)


@pytest.mark.parametrize(("distribution", "values"), VALUES)
def test_drawn_values_are_in_range_and_all_occur(distribution: BaseDistribution, values: list[Any]) -> None:
    parameter = Parameter("p", distribution)
    drawn = [parameter.decode(n) for n in parameter.draw(np.random.default_rng(0), 500)]
    assert all(distribution._contains(distribution.to_internal_repr(value)) for value in drawn)
    if parameter.count < 10:
        assert len({repr(value) for value in drawn}) == parameter.count


def test_numbers_are_places_in_the_range_and_logarithms_where_asked() -> None:
    assert Parameter("p", IntDistribution(3, 7, step=2)).encode(5) == 0.5
    assert Parameter("p", FloatDistribution(0.01, 100.0, log=True)).encode(1.0) == pytest.approx(0.5)
    assert Parameter("p", IntDistribution(3, 7, step=2)).count == 3


@pytest.fixture(scope="module")
def trials() -> list[optuna.trial.FrozenTrial]:
    return conditional.study(optuna.samplers.RandomSampler(seed=0), 60).trials


def test_conditions_are_found_in_the_trials(trials: list[optuna.trial.FrozenTrial]) -> None:
    parameters = Parameters(trials)
    names = [p.name for p in parameters.all]
    found = {names[child]: names[c.parent] for child, c in parameters.conditions.items()}
    assert found == {
        "net.stage2.kind": "net.stages",
        "net.stage2.width": "net.stages",
        "net.stage3.kind": "net.stages",
        "net.stage3.width": "net.stages",
        "net.stage1.factor": "net.stage1.kind",
        "net.stage2.factor": "net.stage2.kind",
        "net.stage3.factor": "net.stage3.kind",
        "prune.ratio": "prune.enabled",
    }


@pytest.mark.parametrize("how", ["random", "mutate", "cross"])
def test_new_rows_have_the_parameters_that_a_trial_would_be_asked_for(
    how: str, trials: list[optuna.trial.FrozenTrial]
) -> None:
    parameters, rng = Parameters(trials), np.random.default_rng(1)
    rows = parameters.encode([t.params for t in trials])
    if how == "random":
        made = parameters.random(rng, 50)
    elif how == "mutate":
        made = parameters.mutate(rows, rng, np.full(len(rows), 2))
    else:
        made = parameters.cross(rows[:30], rows[30:], rng)
    for row in made:
        chosen = parameters.decode(row)
        asked: dict[str, Any] = {}
        fixed = optuna.trial.FixedTrial(chosen)
        conditional.suggest(fixed)  # type: ignore[arg-type]
        asked = fixed.params
        assert asked == chosen  # nothing is missing, and nothing too many


def test_a_mutation_changes_as_many_parameters_as_it_is_to(trials: list[optuna.trial.FrozenTrial]) -> None:
    parameters = Parameters(trials)
    rows = parameters.encode([t.params for t in trials])
    shared = [i for i, p in enumerate(parameters.all) if i not in parameters.conditions]
    leaves = [i for i in range(len(parameters)) if i not in {c.parent for c in parameters.conditions.values()}]
    for changes in (1, 2):
        made = parameters.mutate(rows, np.random.default_rng(changes), np.full(len(rows), changes))
        for before, after in zip(rows, made, strict=True):
            same = (before == after) | (np.isnan(before) & np.isnan(after))
            if all(same[i] for i in range(len(parameters)) if i not in leaves):  # else others came or went with it
                assert (~same).sum() == changes
    assert shared


def test_points_are_as_far_apart_as_their_values() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: float(t.suggest_int("n", 0, 4)) + len(t.suggest_categorical("c", ["a", "bb"])), 20)
    parameters = Parameters(study.trials)
    rows = parameters.encode([{"n": 0, "c": "a"}, {"n": 4, "c": "a"}, {"n": 1, "c": "bb"}, {"n": 1}])
    points = parameters.features.of(rows)
    squares = ((points[:, None] - points[None]) ** 2).sum(2)
    assert squares[0] == pytest.approx([0, 1, 1 + 0.25**2, 0.5 + 0.25**2])


def test_equal_rows_have_equal_keys() -> None:
    one = np.array([[0.1 + 0.2, np.nan, -0.0], [0.3, np.nan, 0.0], [0.3, 0.0, 0.0]])
    first, second, third = keys(one)
    assert first == second != third
