"""The end of a search: finalists trained for longer, the whole front measured and tested. Runs again freely."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from nas_edge.engine.audit import TrialModel, conclude, draw_sample, last_audited, measure_missing
from nas_edge.engine.finals import CLAIMS, due, finalise_all
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import copy_model, read_recipe
from nas_edge.engine.session import Session
from nas_edge.engine.workers import cores_shared_out, siblings
from nas_edge.export import sha256_of
from nas_edge.records import Evaluation
from nas_edge.store.processes import exclusively
from nas_edge.store.study import StoredStudy
from nas_edge.store.tables import trained_longer

LOCK = ".finish.lock"


def finish(
    session: Session,
    stored: StoredStudy,
    progress: Progress,
    *,
    kept: Sequence[FrozenTrial] = (),
    longer: Sequence[FrozenTrial] | None = None,
) -> None:
    """Finalise the front, and audit the predictions where trials were added; what has been done stays as it is.

    Trials to be `kept` are finalised with it. Those of `longer` are trained again for longer, by default the whole
    front or its first; others with inherited weights are trained again as long as without them. One process at a time
    does it: of two, one would note its own file and ship the other's.
    """
    with exclusively(stored.folder / LOCK):
        _finish(session, stored, progress, kept, longer)


def _finish(
    session: Session,
    stored: StoredStudy,
    progress: Progress,
    kept: Sequence[FrozenTrial],
    longer: Sequence[FrozenTrial] | None,
) -> None:
    front, config = stored.front(), stored.config
    if longer is None:
        longer = front[: config.train.finalists] if config.train.final_budget else []
    budgets = {t.number: 1.0 for t in front} if session.shared else {}
    budgets |= {t.number: config.train.final_budget for t in longer}
    others = {t.number: t for t in (*kept, *longer)}
    front += [t for number, t in others.items() if number not in {member.number for member in front}]
    publish(session, stored, front, progress, budgets)
    audit_due = config.audit_trials > 0 and stored.finished() > last_audited(stored)
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        sample = draw_sample(stored, config.audit_trials, Path(folder), progress) if audit_due else []
        members = _published(stored, front)
        measure_missing(session, stored, [*members, *sample], progress)
        if audit_due:
            conclude(session, stored, sample, members, progress)


def finalise(session: Session, stored: StoredStudy, trials: Sequence[FrozenTrial], progress: Progress) -> None:
    """Test and measure trials, and publish their files."""
    with exclusively(stored.folder / LOCK):
        publish(session, stored, trials, progress)
        measure_missing(session, stored, _published(stored, trials), progress)


def publish(
    session: Session,
    stored: StoredStudy,
    trials: Sequence[FrozenTrial],
    progress: Progress,
    budgets: Mapping[int, float] | None = None,
) -> None:
    """Test trials, and publish their files; those with a budget, in units of a candidate's, after more training."""
    budgets = budgets or {}
    training = [t.number for t in due(stored, trials, budgets) if t.number in budgets]
    workers = 1 if stored.config.on else max(1, min(stored.config.workers, len(training)))
    with cores_shared_out(workers), siblings(stored, progress, workers, finals=budgets):
        finalise_all(session, stored, trials, progress, budgets)
    shutil.rmtree(stored.folder / CLAIMS, ignore_errors=True)
    finals = stored.tables.finals(stored.config.name)
    for trial in trials:
        if not is_published(stored, trial.number, finals[trial.number]):
            path = stored.model_path(trial.number)
            copy_model(stored, trial, path, final=finals[trial.number]["final"])


def front_evaluations(stored: StoredStudy) -> list[Evaluation]:
    """What is known of the members of the front, for the observers."""
    finals = stored.tables.finals(stored.config.name)
    return [read_recipe(stored, trial, final=trained_longer(finals.get(trial.number)))[1] for trial in stored.front()]


def is_published(stored: StoredStudy, number: int, final: Mapping[str, Any]) -> bool:
    """Whether the published file is the one that was tested; another study may have left its own there."""
    path = stored.model_path(number)
    return path.is_file() and sha256_of(path) == final["onnx_sha256"]


def _published(stored: StoredStudy, trials: Sequence[FrozenTrial]) -> list[TrialModel]:
    """The published files of finalised trials."""
    finals = stored.tables.finals(stored.config.name)
    return [
        TrialModel(
            trial=t.number,
            onnx_sha256=finals[t.number]["onnx_sha256"],
            path=stored.model_path(t.number),
            predicted=finals[t.number]["predicted_ms"] is not None,
        )
        for t in trials
    ]
