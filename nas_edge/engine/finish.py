"""The end of a search: finalists trained for longer, the whole front measured and tested. Runs again freely."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from nas_edge.contracts import Context
from nas_edge.engine.audit import TrialModel, conclude, draw_sample, last_audited, measure_missing
from nas_edge.engine.limits import limits
from nas_edge.engine.loop import recipe_text, techniques_of, undone_of
from nas_edge.engine.paired import gain
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import MODEL_FILE, RECIPE_FILE, copy_model, final_name, read_recipe
from nas_edge.engine.session import Session
from nas_edge.engine.supervised import in_hand, lost_of
from nas_edge.errors import UserError
from nas_edge.evaluate import evaluate
from nas_edge.export import accuracy, hits, sha256_of
from nas_edge.records import Evaluation
from nas_edge.spec import CandidateSpec
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
    due = config.audit_trials > 0 and stored.finished() > last_audited(stored)
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        sample = draw_sample(stored, config.audit_trials, Path(folder), progress) if due else []
        members = _published(stored, front)
        measure_missing(session, stored, [*members, *sample], progress)
        if due:
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
    name = stored.config.name
    finals, budgets, lost = stored.tables.finals(name), budgets or {}, lost_of(name, final=True)
    for trial in trials:
        known, budget = finals.get(trial.number), budgets.get(trial.number)
        if known is not None and (known["retrained"] or budget is None):
            continue
        progress.phase(f"Testing trial {trial.number}" + ("" if budget is None else ", trained for longer"))
        retrain, limit = budget is not None, limits(session.config, trials, budget or 1.0)
        if lost is not None and lost.trial == trial.number:
            progress.warn(f"trial {trial.number} stays as it was found: trained for longer, {lost.why}")
            retrain = False
        with (
            session.context(budget or 1.0, final=True) as context,
            in_hand(name, trial.number, **limit, final=True),
        ):
            record = _finalise(session, stored, trial, context, progress, retrain=retrain)
        stored.tables.add_final(name, trial.number, {**record, "retrained": budget is not None})
    finals = stored.tables.finals(name)
    for trial in trials:
        if not is_published(stored, trial.number, finals[trial.number]):
            path = stored.model_path(trial.number)
            copy_model(stored, trial, path, final=finals[trial.number]["final"])


def _finalise(
    session: Session, stored: StoredStudy, trial: FrozenTrial, context: Context, progress: Progress, *, retrain: bool
) -> dict[str, Any]:
    """The record of one member, but for whether it was due: trained for longer where asked and no worse, then tested.

    Which of the two is better is not decided by their accuracy alone: the shorter training was chosen for its own, by
    luck too, so it is kept where the longer one is worse by more than its standard error.
    """
    spec, kept = read_recipe(stored, trial, final=False)
    path, final = context.work_dir / "searched.onnx", False
    copy_model(stored, trial, path, final=False)
    if retrain:
        candidate = None
        try:  # what the search undid stays undone: it is the candidate that was found which is trained for longer
            candidate, evaluation = evaluate(
                session.registry, spec, context, session.config.train, session.predictions, undone=undone_of(spec, kept)
            )
        except (UserError, OSError):
            raise
        except Exception as error:  # more training can change the ranks, and leave nothing to build or to export
            progress.warn(f"trial {trial.number} stays as it was found: trained for longer, it fails ({error})")
        limit = session.config.max_latency_ms
        if (
            candidate is not None
            and candidate.onnx_path is not None
            and (limit is None or evaluation.latency_ms <= limit)
            and not _is_worse(candidate.onnx_path, path, session)
        ):
            path, kept, final = candidate.onnx_path, evaluation, True
            _store_final(stored, trial, spec, evaluation, path)
    return {
        "final": final,
        "accuracy": kept.accuracy,
        "test_accuracy": accuracy(path, session.data.test, session.target),
        "test_images": len(session.data.test),
        "predicted_ms": kept.latency_ms if kept.latency_source == "predicted" else None,
        "predicted_low_ms": kept.latency_low_ms,
        "predicted_high_ms": kept.latency_high_ms,
        "size_bytes": kept.size_bytes,
        "macs": kept.macs,
        "parameters": kept.parameters,
        "techniques": techniques_of(spec, kept),
        "onnx_sha256": kept.onnx_sha256,
    }


def _is_worse(longer: Path, shorter: Path, session: Session) -> bool:
    gained, error = gain(*(hits(path, session.data.validation, session.target) for path in (shorter, longer)))
    return gained < -error


def _store_final(
    stored: StoredStudy, trial: FrozenTrial, spec: CandidateSpec, evaluation: Evaluation, model: Path
) -> None:
    """Finished trials take no more artifacts, so those of the final training belong to the study."""
    copy = model.with_name(final_name(trial, MODEL_FILE))
    copy.write_bytes(model.read_bytes())
    recipe = model.with_name(final_name(trial, RECIPE_FILE))
    recipe.write_text(recipe_text(spec, evaluation))
    stored.upload(copy, stored.study)
    stored.upload(recipe, stored.study)


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
