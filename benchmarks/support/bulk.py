"""Fills a study with thousands of finished trials within seconds, as a search would have left them.

Each is sampled, evaluated and noted by the search's own code, but in memory; the rows are then written at once.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import optuna
import sqlalchemy as sa
from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from benchmarks.support.instant import instant
from nas_edge.contracts import Context
from nas_edge.engine.loop import store_evaluation
from nas_edge.engine.sample import suggest_spec
from nas_edge.engine.session import Session
from nas_edge.records import Audited, LatencyAudit, Prediction
from nas_edge.samplers.history import PARTIAL
from nas_edge.spec import CandidateSpec
from nas_edge.store.marks import worker_mark
from nas_edge.store.processes import WORKER
from nas_edge.store.study import REPEAT_OF, StoredStudy
from nas_edge.store.tables import prediction_table

CHUNK = 500  # trials of one study in memory: asking for one looks at all of them
OF_TEN = {3: TrialState.PRUNED, 7: TrialState.PRUNED, 9: TrialState.FAIL}  # the others are evaluated
REPEATED_OF_TEN = 5  # every fourth of these is answered from the store
LIMIT_MS = 0.8
PROFILE = "bulk"


class Memory(optuna.storages.InMemoryStorage):
    """Takes part where a study's own storage is expected."""

    def together(self, trial_id: int) -> AbstractContextManager[None]:
        return nullcontext()


def fill(session: Session, stored: StoredStudy, trials: int) -> None:
    """Add so many trials to a study that has none, with their artifacts, predictions and an audit."""
    with tempfile.TemporaryDirectory() as folder:
        context = Context(
            data=session.data, target=session.target, trainer=session.trainer, work_dir=Path(folder), seed=0, samples=1
        )
        for first in range(0, trials, CHUNK):
            write_trials(stored, _chunk(session, stored, context, first, min(CHUNK, trials - first)))
    _predict(session, stored)


def _chunk(session: Session, stored: StoredStudy, context: Context, first: int, size: int) -> list[FrozenTrial]:
    memory = Memory()
    sampler = optuna.samplers.RandomSampler(seed=first)
    study = optuna.create_study(storage=memory, directions=stored.study.directions, sampler=sampler)
    beside = replace(stored, study=study, storage=cast(Any, memory))
    for number in range(first, first + size):
        _trial(session, beside, context, number)
    return [_numbered(trial, first) for trial in study.get_trials(deepcopy=False)]


def _trial(session: Session, beside: StoredStudy, context: Context, number: int) -> None:
    trial = beside.study.ask()
    trial.set_user_attr(WORKER, worker_mark())
    spec: CandidateSpec = suggest_spec(trial, session.space, session.techniques, session.choices)
    trial.set_user_attr("key", spec.key)
    trial.set_user_attr("techniques", spec.summary)
    candidate, evaluation = instant(session.registry, spec, context, session.config.train)
    state = OF_TEN.get(number % 10)
    if state is TrialState.FAIL:
        trial.set_user_attr("why", "failed: RuntimeError: the loss is not finite after 3 steps of training")
    else:
        trial.set_constraint("latency_ms", evaluation.latency_ms - LIMIT_MS)
    if state is TrialState.PRUNED:
        trial.set_user_attr(PARTIAL, [None, evaluation.latency_ms])
        trial.set_user_attr(
            "why", f"rejected: {evaluation.latency_ms:.3g} ms predicted before training, over the limit"
        )
    if state is not None:
        beside.study.tell(trial, state=state)
        return
    # Each file has its own hash in a search; here all hold the same bytes.
    store_evaluation(beside, trial, candidate, replace(evaluation, onnx_sha256=spec.key))
    if number % 40 == REPEATED_OF_TEN:
        trial.set_user_attr(REPEAT_OF, number - 1)
    beside.study.tell(trial, [evaluation.accuracy, evaluation.latency_ms])


def _numbered(trial: FrozenTrial, first: int) -> FrozenTrial:
    trial.number += first
    return trial


def write_trials(stored: StoredStudy, trials: Sequence[FrozenTrial]) -> None:
    """The rows of all trials in one transaction, as Optuna's storage writes those of one."""
    start = datetime(2026, 1, 1)
    with stored.storage.engine.begin() as connection:
        for trial in trials:
            trial.datetime_start = start + timedelta(minutes=trial.number)
            trial.datetime_complete = trial.datetime_start + timedelta(seconds=50)
        # The study is alone in its database, so that its trials have the ids that come next.
        found = connection.execute(sa.select(sa.func.max(models.TrialModel.trial_id))).scalar_one()
        ids = {trial.number: i for i, trial in enumerate(trials, start=(found or 0) + 1)}
        for model, rows in _rows(stored.study._study_id, trials, ids):
            if listed := list(rows):
                connection.execute(sa.insert(model), listed)
        if connection.dialect.name == "postgresql":
            sequence = "SELECT setval(pg_get_serial_sequence('trials', 'trial_id'), :last)"
            connection.execute(sa.text(sequence), {"last": max(ids.values())})


def _rows(study_id: int, trials: Sequence[FrozenTrial], ids: dict[int, int]) -> Iterator[tuple[Any, Iterator[Any]]]:
    finite = models.TrialValueModel.TrialValueType.FINITE
    yield (
        models.TrialModel.__table__,
        (
            {
                "trial_id": ids[t.number],
                "number": t.number,
                "study_id": study_id,
                "state": t.state,
                "datetime_start": t.datetime_start,
                "datetime_complete": t.datetime_complete,
            }
            for t in trials
        ),
    )
    yield (
        models.TrialParamModel.__table__,
        (
            {
                "trial_id": ids[t.number],
                "param_name": name,
                "param_value": distribution.to_internal_repr(t.params[name]),
                "distribution_json": distribution_to_json(distribution),
            }
            for t in trials
            for name, distribution in t.distributions.items()
        ),
    )
    yield (
        models.TrialValueModel.__table__,
        (
            {"trial_id": ids[t.number], "objective": i, "value": value, "value_type": finite}
            for t in trials
            for i, value in enumerate(t.values or ())
        ),
    )
    for model, kind in (
        (models.TrialUserAttributeModel, "user_attrs"),
        (models.TrialSystemAttributeModel, "system_attrs"),
    ):
        yield (
            model.__table__,
            (
                {"trial_id": ids[t.number], "key": key, "value_json": json.dumps(value)}
                for t in trials
                for key, value in getattr(t, kind).items()
            ),
        )


def _predict(session: Session, stored: StoredStudy) -> None:
    """What a search keeps of its predictions, and the audit that names their profile."""
    evaluated = stored.evaluated()
    rows = []
    for trial in evaluated:
        prediction = asdict(Prediction(trial.values[1], 0.9 * trial.values[1], 1.1 * trial.values[1]))
        rows.append(
            {
                "onnx_sha256": trial.user_attrs["onnx_sha256"],
                "fingerprint": session.target_key,
                "profile": PROFILE,
                "created": "2026-01-01T00:00:00+00:00",
                "record": json.dumps({k: v for k, v in prediction.items() if k != "kernels"}),
            }
        )
    with stored.storage.engine.begin() as connection:
        connection.execute(sa.insert(prediction_table), rows)
    sample = tuple(Audited(t.number, t.values[1], 1.02 * t.values[1]) for t in evaluated[:8])
    stored.tables.add_audits(stored.config.name, [LatencyAudit(len(evaluated), PROFILE, 0.02, 0.05, 120, sample)])
