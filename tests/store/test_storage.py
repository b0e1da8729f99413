"""Reading and writing trials: the same as by Optuna's own storage."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from nas_edge.store.database import disconnect, open_database
from nas_edge.store.storage import QuickStorage

from ..servers import DatabaseServer


def optunas(
    storage: QuickStorage, study: optuna.Study, newer_than: int = -1, also: frozenset[int] = frozenset()
) -> list[FrozenTrial]:
    return optuna.storages.RDBStorage._get_trials(storage, study._study_id, None, set(also), newer_than)


def fill(study: optuna.Study) -> None:
    """Trials in every state, with everything that a trial may hold."""
    for number in range(12):
        trial = study.ask()
        trial.suggest_int("z", 1, 9, step=2)
        if trial.suggest_categorical("on", [False, True, None, "ü"]):
            trial.suggest_float("a", 1e-3, 10.0, log=True)
        trial.set_user_attr("words", ["ü", None, {"n": number}])
        trial.set_user_attr("why", "x" * number)
        trial.set_constraint("latency_ms", number - 3.5)
        if number % 4 == 1:
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 4 == 2:
            study.tell(trial, state=TrialState.FAIL)
        elif number < 11:
            study.tell(trial, [0.5 if number else -math.inf, math.inf if number == 4 else 1.0])
    study.enqueue_trial({"z": 3}, user_attrs={"start": "given"})


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QuickStorage]:
    url = f"sqlite:///{tmp_path}/study.db"
    if request.param == "postgresql":
        server: DatabaseServer = request.getfixturevalue("postgresql")
        url = server.database()
    opened = open_database(url, create=True)
    yield opened
    disconnect(opened)


@pytest.fixture
def study(storage: QuickStorage) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=0)
    for name in ("beside", "study"):
        made = optuna.create_study(
            storage=storage, study_name=name, directions=["maximize", "minimize"], sampler=sampler
        )
        fill(made)
    return made


def test_trials_are_those_that_optuna_reads(storage: QuickStorage, study: optuna.Study) -> None:
    found: list[FrozenTrial] = storage.get_all_trials(study._study_id, deepcopy=False)
    assert found == optunas(storage, study)
    assert [list(t.params) for t in found] == [list(t.params) for t in optunas(storage, study)]
    assert len(found) == 13 and {t.state for t in found} == set(TrialState)
    ids = [t._trial_id for t in found]
    some = storage._get_trials(study._study_id, None, {ids[1], ids[9]}, ids[7])
    assert some == optunas(storage, study, ids[7], frozenset({ids[1]}))
    assert [t.number for t in some] == [1, 8, 9, 10, 11, 12]
    assert storage._get_trials(study._study_id, None, set(), ids[-1]) == []
    failed = storage.get_all_trials(study._study_id, states=(TrialState.FAIL,))
    assert [t.number for t in failed] == [2, 6, 10]


def test_intermediate_values_are_read(tmp_path: Path) -> None:
    storage = open_database(f"sqlite:///{tmp_path}/study.db", create=True)
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    for step, value in enumerate([1.5, math.inf, -math.inf, math.nan]):
        trial.report(value, step)
    (found,) = storage.get_all_trials(study._study_id)
    assert str(found.intermediate_values) == "{0: 1.5, 1: inf, 2: -inf, 3: nan}"


def test_trials_in_brief_lack_their_parameters_alone(storage: QuickStorage, study: optuna.Study) -> None:
    brief = storage.brief_trials(study._study_id)
    assert not any(t.params or t.distributions for t in brief)
    for short, whole in zip(brief, study.get_trials(), strict=True):
        whole.params, whole.distributions = {}, {}
        assert short == whole


def test_what_is_written_together_is_what_is_written_alone(storage: QuickStorage, study: optuna.Study) -> None:
    """And in the order that it was asked for."""
    trial = study.ask({})
    trial.set_user_attr("techniques", "before")
    with storage.together(trial._trial_id):
        trial.suggest_int("new", 0, 4)
        trial.suggest_int("z", 1, 9, step=2)
        trial.suggest_float("a", 1e-3, 10.0, log=True)
        trial.set_user_attr("techniques", "within")
        trial.set_user_attr("key", "k")
        held = storage.get_trial(trial._trial_id)
        assert (held.params.keys() - {"z"}, held.user_attrs["techniques"]) == (set(), "before")
    held = storage.get_trial(trial._trial_id)
    assert list(held.params.items()) == list(trial.params.items()) and len(held.params) == 3
    assert {**held.user_attrs, "start": ""} == {"start": "", "techniques": "within", "key": "k"}
    assert held.distributions == trial.distributions


def test_what_contradicts_the_study_is_refused(storage: QuickStorage, study: optuna.Study) -> None:
    trial = study.ask()
    with pytest.raises(ValueError, match="dynamic value space"), storage.together(trial._trial_id):
        trial.suggest_categorical("on", ["other"])
    with storage.together(trial._trial_id):
        trial.suggest_int("z", 1, 9, step=2)
    study.tell(trial, state=TrialState.FAIL)  # as another worker would that took this one for dead
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError), storage.together(trial._trial_id):
        trial.set_user_attr("key", "k")
    assert "key" not in storage.get_trial(trial._trial_id).user_attrs
