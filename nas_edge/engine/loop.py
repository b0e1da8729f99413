"""The search: ask Optuna, evaluate, tell; safe to kill at any moment and to go on with."""

from __future__ import annotations

import errno
import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_edge.contracts import Candidate, Context
from nas_edge.engine.progress import Point, Progress
from nas_edge.engine.sample import suggest_spec
from nas_edge.engine.session import Session
from nas_edge.engine.standing import asks_for_a_draft, constrain_goals, hopeless, is_given, mark_rejected
from nas_edge.errors import InvalidCandidate, ModelError, NasEdgeError, UserError
from nas_edge.evaluate import evaluate, make_draft
from nas_edge.records import Evaluation
from nas_edge.samplers.history import UNDONE
from nas_edge.samplers.registered import make_sampler
from nas_edge.spec import CandidateSpec
from nas_edge.store.database import make_folder
from nas_edge.store.study import StoredStudy, begun

MAX_REJECTED_IN_A_ROW = 300
MAX_FAILED_IN_A_ROW = 5
WAIT_S = 0.5
DRAFT_MARGIN = 1.25  # on random weights low ranks come out higher than on trained ones
MAX_REASON = 400  # characters, for Optuna Dashboard
MODEL_FILE, RECIPE_FILE = "model.onnx", "recipe.json"


class Rejected(Exception):
    """A candidate that is not worth training; the reason is the message."""


def run_trials(
    session: Session,
    stored: StoredStudy,
    progress: Progress,
    *,
    deadline: float | None = None,
    after_trial: Callable[[int], bool | None] | None = None,
) -> None:
    """Evaluate candidates until the study has the asked number of them, or `deadline` (time.monotonic) passes.

    Whatever ends it early, the trial in hand is queued again first. `after_trial` is called after each evaluated
    candidate with the number of them, and says whether that is enough.
    """
    try:
        _run_trials(session, stored, progress, deadline, after_trial)
    except BaseException as error:
        with stored.alone():
            stored.requeue_own("interrupted" if isinstance(error, KeyboardInterrupt) else "stopped by an error")
        raise


def _run_trials(
    session: Session,
    stored: StoredStudy,
    progress: Progress,
    deadline: float | None,
    after_trial: Callable[[int], bool | None] | None,
) -> None:
    total = stored.config.trials
    rejected = failed = 0
    while True:
        with ExitStack() as turn:
            turn.enter_context(stored.alone())  # or the workers on this machine would ask for one trial too many
            trials = stored.trials()
            if stored.requeue_dead(trials):
                continue
            _report(stored, trials, progress)
            states = Counter(t.state for t in trials)
            if states[TrialState.COMPLETE] >= total or (deadline is not None and time.monotonic() >= deadline):
                return
            busy = states[TrialState.COMPLETE] + states[TrialState.RUNNING] >= total
            trial = None if busy else _ask(session, stored, trials)
            state = None if trial is None else run_trial(session, stored, trial, trials, turn.pop_all(), progress)
        if trial is None or state is None:  # the last ones are in other hands: stay until they are told or dead
            time.sleep(WAIT_S)
            continue
        if state is TrialState.COMPLETE and after_trial is not None and after_trial(states[TrialState.COMPLETE] + 1):
            _report(stored, stored.trials(), progress)
            return
        rejected = rejected + 1 if state is TrialState.PRUNED else 0
        failed = failed + 1 if state is TrialState.FAIL else 0
        if rejected >= MAX_REJECTED_IN_A_ROW:
            why = stored.trial(trial.number).user_attrs.get("why", "")
            said = f"{rejected} candidates in a row were rejected, the last: {why}"
            if not stored.finished():
                raise UserError(f"{said}; loosen the limits")
            progress.warn(f"the search ends early: {said}")
            return
        if failed >= MAX_FAILED_IN_A_ROW:
            why = stored.trial(trial.number).user_attrs.get("why", "")
            raise NasEdgeError(f"{failed} trials in a row failed, the last: {why}; see {error_log(stored)}")


def run_trial(
    session: Session,
    stored: StoredStudy,
    trial: optuna.Trial,
    others: Sequence[FrozenTrial],
    turn: AbstractContextManager[object],
    progress: Progress,
) -> TrialState:
    """One trial, told to Optuna whatever its candidate does; returns the state it was told with.

    `turn` keeps other workers from asking, and is left once the candidate is known; `others` were read within it.
    """
    try:
        with turn:
            spec = _sample(session, trial, others)
        with session.context() as context:
            _reject_early(session, trial, spec, context, others)
            candidate, evaluation = evaluate(
                session.registry, spec, context, session.config.train, session.predictions, session.gate
            )
            store_evaluation(stored, trial, candidate, evaluation)
        _constrain(trial, session.config.max_latency_ms, evaluation.latency_ms)
        constrain_goals(session, trial, others, evaluation)
        stored.study.tell(trial, [getattr(evaluation, name) for name in session.config.objectives])
    except (Rejected, InvalidCandidate) as error:
        mark_rejected(session.config.goals, trial)
        return _end(stored, trial, TrialState.PRUNED, f"rejected: {_line(error)}", progress)
    except (Exception, SystemExit) as error:
        if _is_general(error):
            raise
        _log_traceback(stored, f"trial {trial.number}")
        return _end(stored, trial, TrialState.FAIL, f"failed: {type(error).__name__}: {_line(error)}", progress)
    progress.trial(trial.number, describe(evaluation, spec))
    notify(stored, progress, session.registry.hooks.hook.candidate_finished, evaluation=evaluation)
    return TrialState.COMPLETE


def _is_general(error: BaseException) -> bool:
    """Whether an error would meet the next candidates too: a missing plugin, a full disk, a database that is gone."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
    return isinstance(error, UserError) and not isinstance(error, ModelError)


def _ask(session: Session, stored: StoredStudy, trials: Sequence[FrozenTrial]) -> optuna.Trial:
    """The next trial of the search. The sampler is made anew for it, so that resuming needs no state."""
    seed = int(np.random.SeedSequence([session.config.seed, begun(trials)]).generate_state(1)[0])
    stored.study.sampler = make_sampler(session.registry, session.config.sampler, seed)
    return stored.ask(trials)


def _sample(session: Session, trial: optuna.Trial, others: Sequence[FrozenTrial]) -> CandidateSpec:
    """The candidate of a trial; `Rejected` where the study has it already, finished or in another worker's hands."""
    techniques = [] if is_given(trial) else session.techniques
    spec = suggest_spec(trial, session.space, techniques, session.choices)
    key = spec.key
    trial.set_user_attr("key", key)
    trial.set_user_attr("techniques", spec.summary)
    for other in others:
        if other.state in (TrialState.COMPLETE, TrialState.RUNNING) and other.user_attrs.get("key") == key:
            raise Rejected(f"the same candidate as trial {other.number}")
    return spec


def _reject_early(
    session: Session, trial: optuna.Trial, spec: CandidateSpec, context: Context, others: Sequence[FrozenTrial]
) -> None:
    """Spend no training on what plugins refuse, what is too slow, or what cannot meet the goals of a compression."""
    reasons = session.registry.hooks.hook.validate_candidate(spec=spec, context=context)
    if reasons:
        raise Rejected("; ".join(reasons))
    limit = session.config.max_latency_ms
    selective = asks_for_a_draft(session, spec)
    if limit is None and not selective:
        return
    draft, size_bytes = make_draft(session.registry, spec, context, session.config.train, session.gate)
    if limit is not None:
        loose = any(session.registry.techniques[s.technique].shape_follows_weights for s in spec.steps)
        if draft.low_ms > limit * (DRAFT_MARGIN if loose else 1.0):
            _constrain(trial, limit, draft.ms)
            raise Rejected(f"{draft.ms:.3g} ms {draft.source} before training, over --max-latency-ms {limit:g}")
    if selective:
        why = hopeless(session, trial, others, latency_ms=draft.ms, size_bytes=size_bytes)
        if why is not None:
            raise Rejected(why)


def store_evaluation(stored: StoredStudy, trial: optuna.Trial, candidate: Candidate, evaluation: Evaluation) -> None:
    """Keep the file, the recipe, and short attributes that read well in Optuna Dashboard."""
    path = candidate.onnx_path
    if path is None:
        raise ValueError("the candidate has no ONNX file")
    recipe = path.with_name(RECIPE_FILE)
    recipe.write_text(recipe_text(candidate.spec, evaluation))
    stored.upload(path, trial)
    stored.upload(recipe, trial)
    interval = f"{evaluation.latency_low_ms:.3g} to {evaluation.latency_high_ms:.3g}"
    trial.set_user_attr("techniques", techniques_of(candidate.spec, evaluation))
    if undone := undone_of(candidate.spec, evaluation):
        trial.set_user_attr(UNDONE, sorted(undone))
    trial.set_user_attr("accuracy", f"{evaluation.accuracy:.2%}")
    trial.set_user_attr("latency", f"{evaluation.latency_ms:.3g} ms ({interval}, {evaluation.latency_source})")
    trial.set_user_attr("latency_source", evaluation.latency_source)
    trial.set_user_attr("size_bytes", evaluation.size_bytes)
    trial.set_user_attr("onnx_sha256", evaluation.onnx_sha256)


def recipe_text(spec: CandidateSpec, evaluation: Evaluation) -> str:
    """What a candidate is and what was found of it, as JSON."""
    return json.dumps({"spec": spec.to_json(), "evaluation": asdict(evaluation)}, indent=1)


def _report(stored: StoredStudy, trials: Sequence[FrozenTrial], progress: Progress) -> None:
    """The front so far, for the progress display."""
    points = [
        Point(t.number, t.values[0], t.values[1], t.user_attrs["size_bytes"], t.user_attrs["techniques"])
        for t in stored.front(trials)
    ]
    done = sum(t.state is TrialState.COMPLETE for t in trials)
    progress.trials(done, stored.config.trials, points)


def techniques_of(spec: CandidateSpec, evaluation: Evaluation) -> str:
    """The techniques that act, in words: those of the spec without what was undone."""
    return spec.summary if evaluation.techniques is None else " + ".join(evaluation.techniques) or "none"


def undone_of(spec: CandidateSpec, evaluation: Evaluation) -> set[str]:
    """The techniques of a candidate that the gate undid."""
    kept = evaluation.techniques
    return set() if kept is None else {s.technique for s in spec.steps} - set(kept)


def describe(evaluation: Evaluation, spec: CandidateSpec) -> str:
    size, took = f"{evaluation.size_bytes / 1000:.0f} kB", f"{evaluation.seconds['total']:.0f} s"
    techniques = techniques_of(spec, evaluation)
    return f"{evaluation.accuracy:.1%}  {evaluation.latency_ms:.3g} ms  {size}  {techniques}  ({took})"


def error_log(stored: StoredStudy) -> Path:
    return stored.folder / "errors.log"


def notify(stored: StoredStudy, progress: Progress, observers: Callable[..., Any], **what: Any) -> None:
    """Call the observers of a study. One that fails costs a warning, not the search."""
    try:
        observers(study=stored.study, **what)
    except (Exception, SystemExit) as error:
        _log_traceback(stored, "an observer")
        progress.warn(f"an observer failed: {type(error).__name__}: {_line(error)}; see {error_log(stored)}")


def _constrain(trial: optuna.Trial, limit_ms: float | None, latency_ms: float) -> None:
    if limit_ms is not None:
        trial.set_constraint("latency_ms", latency_ms - limit_ms)


def _end(stored: StoredStudy, trial: optuna.Trial, state: TrialState, why: str, progress: Progress) -> TrialState:
    trial.set_user_attr("why", why)
    stored.study.tell(trial, state=state)
    progress.trial(trial.number, why)
    return state


def _log_traceback(stored: StoredStudy, where: str) -> None:
    make_folder(stored.folder)
    with error_log(stored).open("a", encoding="utf-8") as file:
        file.write(f"--- {where}\n{traceback.format_exc()}\n")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
