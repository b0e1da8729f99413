"""The search: ask Optuna, evaluate, tell; safe to kill at any moment and to go on with."""

from __future__ import annotations

import enum
import errno
import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nas_edge.contracts import Candidate
from nas_edge.engine.early import Outlook, Rejected, is_turned_down
from nas_edge.engine.limits import limits
from nas_edge.engine.progress import Point, Progress
from nas_edge.engine.recipes import RECIPE_FILE
from nas_edge.engine.sample import suggest_spec
from nas_edge.engine.session import Session
from nas_edge.engine.standing import constrain_goals, is_given, mark_rejected
from nas_edge.engine.supervised import in_hand, lost_of
from nas_edge.errors import InvalidCandidate, ModelError, NasEdgeError, UserError
from nas_edge.evaluate import evaluate
from nas_edge.records import Evaluation
from nas_edge.samplers.history import PARTIAL, UNDONE
from nas_edge.samplers.registered import make_sampler
from nas_edge.spec import CandidateSpec, in_words
from nas_edge.store.database import make_folder
from nas_edge.store.failures import is_failure
from nas_edge.store.requeue import requeue, requeue_dead, requeue_own
from nas_edge.store.study import REPEAT_OF, StoredStudy, begun, is_evaluated

MAX_REJECTED_IN_A_ROW = 300
MAX_FAILED_IN_A_ROW = 5
WAIT_S = 0.5
MAX_REASON = 400  # characters, for Optuna Dashboard
# The attributes of a trial that say what was found of its candidate.
FOUND = ("techniques", UNDONE, "accuracy", "latency", "latency_source", "size_bytes", "onnx_sha256")


class Repeated(Exception):
    """A candidate that a trial of the study has evaluated."""

    def __init__(self, trial: FrozenTrial) -> None:
        super().__init__(f"the same candidate as trial {trial.number}")
        self.trial = trial


class Ended(enum.Enum):
    """How a trial ended."""

    EVALUATED = "evaluated"
    REPEATED = "answered from the store"
    REJECTED = "rejected"
    FAILED = "failed"
    TAKEN = "taken over by another worker"


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
            requeue_own(stored, "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped by an error")
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
    with stored.alone():
        if (lost := lost_of(stored.config.name, final=False)) is not None:
            requeue(stored, stored.trial(lost.trial), lost.why, again=lost.again)
        requeue_own(stored, "left by an earlier search")  # of this process, whose database failed
    while True:
        with ExitStack() as turn:
            turn.enter_context(stored.alone())  # or the workers on this machine would ask for one trial too many
            trials = stored.trials()
            if requeue_dead(stored, trials):
                continue
            report(stored, trials, progress)
            finished = sum(is_evaluated(t) for t in trials)
            running = sum(t.state is TrialState.RUNNING for t in trials)
            if finished >= total or (deadline is not None and time.monotonic() >= deadline):
                return
            trial = None if finished + running >= total else _ask(session, stored, trials)
            ended: Ended | None = None
            if trial is not None:
                ended = Ended.TAKEN
                with (
                    _left_where_taken(stored, trial, progress),
                    in_hand(stored.config.name, trial.number, **limits(session.config, trials)),
                ):
                    ended = run_trial(session, stored, trial, trials, turn.close, progress)
        if trial is None or ended is None:  # the last ones are in other hands: stay until they are told or dead
            time.sleep(WAIT_S)
            continue
        if ended is Ended.EVALUATED and after_trial is not None and after_trial(finished + 1):
            report(stored, stored.trials(), progress)
            return
        rejected = rejected + 1 if ended in (Ended.REJECTED, Ended.REPEATED) else 0
        failed = failed + 1 if ended is Ended.FAILED else 0
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


@contextmanager
def _left_where_taken(stored: StoredStudy, trial: optuna.Trial, progress: Progress) -> Iterator[None]:
    """Leave a trial whose end was told by another worker: this machine was silent for too long."""
    try:
        yield
    except (UpdateFinishedTrialError, ValueError):  # of Optuna, which lets nothing be told twice
        if not stored.is_told(trial):
            raise
        progress.trial(trial.number, Ended.TAKEN.value)


def run_trial(
    session: Session,
    stored: StoredStudy,
    trial: optuna.Trial,
    others: Sequence[FrozenTrial],
    release: Callable[[], None],
    progress: Progress,
) -> Ended:
    """One trial, told to Optuna whatever its candidate does.

    Other workers may ask again after `release`, once the candidate is known; `others` were read before it.
    """
    try:
        with stored.working(trial), session.context() as context:
            try:
                spec = _sample(session, stored, trial, others)
            finally:
                release()
            outlook = Outlook(session, stored, trial, spec, others)
            context = outlook.train_in(context)
            candidate, evaluation = evaluate(
                session.registry,
                spec,
                context,
                session.config.train,
                session.predictions,
                session.gate,
                reconsider=partial(outlook.reconsider, context),
            )
            store_evaluation(stored, trial, candidate, evaluation)
        _constrain(trial, session.config.max_latency_ms, evaluation.latency_ms)
        constrain_goals(session, trial, others, evaluation)
        stored.study.tell(trial, [getattr(evaluation, name) for name in session.config.objectives])
    except Repeated as error:
        return _repeat(stored, trial, error.trial, _line(error), progress)
    except (Rejected, InvalidCandidate) as error:
        mark_rejected(session.config.goals, trial)
        _end(stored, trial, TrialState.PRUNED, f"rejected: {_line(error)}", progress)
        return Ended.REJECTED
    except (Exception, SystemExit) as error:
        if _is_general(error):
            raise
        if stored.is_told(trial):  # a candidate is not to count twice, whatever became of it here
            raise UpdateFinishedTrialError from error
        _log_traceback(stored, f"trial {trial.number}")
        _end(stored, trial, TrialState.FAIL, f"failed: {type(error).__name__}: {_line(error)}", progress)
        return Ended.FAILED
    progress.trial(trial.number, describe(evaluation, spec, session.config.max_latency_ms))
    notify(stored, progress, session.registry.hooks.hook.candidate_finished, evaluation=evaluation)
    return Ended.EVALUATED


def _is_general(error: BaseException) -> bool:
    """Whether an error would meet the next candidates too: a missing plugin, a full disk, a database that is gone."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
    if is_failure(error):
        return True
    return isinstance(error, UserError) and not isinstance(error, ModelError)


def _ask(session: Session, stored: StoredStudy, trials: Sequence[FrozenTrial]) -> optuna.Trial:
    """The next trial of the search. The sampler is made anew for it, so that resuming needs no state."""
    config = session.config
    given = config.seed if config.sampler_seed is None else config.sampler_seed
    seed = int(np.random.SeedSequence([given, begun(trials)]).generate_state(1)[0])
    stored.study.sampler = make_sampler(session.registry, config.sampler, seed)
    return stored.ask(trials)


def _sample(session: Session, stored: StoredStudy, trial: optuna.Trial, others: Sequence[FrozenTrial]) -> CandidateSpec:
    """The candidate of a trial. Raises `Repeated`, or `Rejected` where it was turned down or is in other hands."""
    techniques = [] if is_given(trial) else session.techniques
    with stored.together(trial):
        spec = suggest_spec(trial, session.space, techniques, session.choices)
        key = spec.key
        trial.set_user_attr("key", key)
        trial.set_user_attr("techniques", spec.summary)
    for other in others:
        if other.user_attrs.get("key") != key:
            continue
        if is_evaluated(other):
            raise Repeated(other)
        if other.state is TrialState.RUNNING or PARTIAL in other.user_attrs or is_turned_down(other):
            raise Rejected(f"the same candidate as trial {other.number}")
    return spec


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
    with stored.together(trial):
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


def report(stored: StoredStudy, trials: Sequence[FrozenTrial], progress: Progress) -> None:
    """The front so far, for the progress display."""
    points = [
        Point(t.number, t.values[0], t.values[1], t.user_attrs["size_bytes"], t.user_attrs["techniques"])
        for t in stored.front(trials)
    ]
    done = sum(is_evaluated(t) for t in trials)
    progress.trials(done, stored.config.trials, points)


def techniques_of(spec: CandidateSpec, evaluation: Evaluation) -> str:
    """The techniques that act, in words: those of the spec without what was undone."""
    return spec.summary if evaluation.techniques is None else in_words(evaluation.techniques)


def undone_of(spec: CandidateSpec, evaluation: Evaluation) -> set[str]:
    """The techniques of a candidate that the gate undid."""
    kept = evaluation.techniques
    return set() if kept is None else {s.technique for s in spec.steps} - set(kept)


def describe(evaluation: Evaluation, spec: CandidateSpec, limit_ms: float | None) -> str:
    size, took = f"{evaluation.size_bytes / 1000:.0f} kB", f"{evaluation.seconds['total']:.0f} s"
    techniques, over = techniques_of(spec, evaluation), ""
    if limit_ms is not None and evaluation.latency_ms > limit_ms:
        over = f" (over {limit_ms:g} ms)"
    return f"{evaluation.accuracy:.1%}  {evaluation.latency_ms:.3g} ms{over}  {size}  {techniques}  ({took})"


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


def _repeat(stored: StoredStudy, trial: optuna.Trial, first: FrozenTrial, why: str, progress: Progress) -> Ended:
    """Answer a trial with what is stored of its candidate."""
    found = {name: first.user_attrs[name] for name in FOUND if name in first.user_attrs}
    for name, value in {**found, REPEAT_OF: first.number}.items():
        trial.set_user_attr(name, value)
    for name, value in first.constraints.items():
        trial.set_constraint(name, value)
    trial.set_user_attr("why", why)
    stored.study.tell(trial, first.values)
    progress.trial(trial.number, why)
    return Ended.REPEATED


def _end(stored: StoredStudy, trial: optuna.Trial, state: TrialState, why: str, progress: Progress) -> None:
    trial.set_user_attr("why", why)
    stored.study.tell(trial, state=state)
    progress.trial(trial.number, why)


def _log_traceback(stored: StoredStudy, where: str) -> None:
    make_folder(stored.folder)
    with error_log(stored).open("a", encoding="utf-8") as file:
        file.write(f"--- {where}\n{traceback.format_exc()}\n")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
