"""Finished trials tested, and trained for longer where they are to be: processes of one machine share them out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from nas_edge.contracts import Context
from nas_edge.engine.limits import limits
from nas_edge.engine.loop import recipe_text, techniques_of, undone_of
from nas_edge.engine.paired import gain
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import MODEL_FILE, RECIPE_FILE, copy_model, final_name, read_recipe
from nas_edge.engine.session import Session
from nas_edge.engine.supervised import in_hand, lost_of
from nas_edge.errors import UserError
from nas_edge.evaluate import evaluate
from nas_edge.export import accuracy, hits
from nas_edge.records import Evaluation
from nas_edge.spec import CandidateSpec
from nas_edge.store.processes import Claims
from nas_edge.store.study import StoredStudy

CLAIMS, POLL_S = ".finals", 0.5  # a folder


def due(stored: StoredStudy, trials: Sequence[FrozenTrial], budgets: Mapping[int, float]) -> list[FrozenTrial]:
    """Those of the trials that are to be tested, or to be trained for longer: they have a budget and were not."""
    finals = stored.tables.finals(stored.config.name)
    return [t for t in trials if t.number not in finals or (t.number in budgets and not finals[t.number]["retrained"])]


def finalise_all(
    session: Session,
    stored: StoredStudy,
    trials: Sequence[FrozenTrial],
    progress: Progress,
    budgets: Mapping[int, float],
) -> None:
    """Test trials, those with a budget, in units of a candidate's, after more training; until all of them are.

    Each is in the hands of one process of this machine at a time.
    """
    lost = lost_of(stored.config.name, final=True)
    claims, waiting = Claims(stored.folder / CLAIMS), False
    while left := due(stored, trials, budgets):
        for trial in sorted(left, key=lambda t: lost is None or t.number != lost.trial):
            with claims.claimed(trial.number) as ours:
                if ours and due(stored, [trial], budgets):  # another may have been quicker
                    why = lost.why if lost is not None and lost.trial == trial.number else None
                    _test(session, stored, trial, trials, budgets.get(trial.number), why, progress)
                    waiting = False
                    break
        else:
            if not waiting:
                progress.phase("Waiting for the trials that other workers train for longer")
            waiting = True
            time.sleep(POLL_S)


def _test(
    session: Session,
    stored: StoredStudy,
    trial: FrozenTrial,
    trials: Sequence[FrozenTrial],
    budget: float | None,
    lost: str | None,
    progress: Progress,
) -> None:
    """Test one, and note what was found. `lost` says why its longer training ended a worker before."""
    name = stored.config.name
    progress.phase(f"Testing trial {trial.number}" + ("" if budget is None else ", trained for longer"))
    if lost is not None:
        progress.warn(f"trial {trial.number} stays as it was found: trained for longer, {lost}")
    retrain, limit = budget is not None and lost is None, limits(session.config, trials, budget or 1.0)
    with (
        session.context(budget or 1.0, final=True) as context,
        in_hand(name, trial.number, **limit, final=True),
    ):
        record = _finalise(session, stored, trial, context, progress, retrain=retrain)
    stored.tables.add_final(name, trial.number, {**record, "retrained": budget is not None})


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
