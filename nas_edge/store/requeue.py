"""What killed processes left behind: their trials are failed, and the parameters queued again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import optuna
from optuna.artifacts._upload import ARTIFACTS_ATTR_PREFIX
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nas_edge.store.marks import worker_mark
from nas_edge.store.processes import WORKER, is_anothers, is_dead, is_elsewhere, silent
from nas_edge.store.study import START, StoredStudy

MAX_RETRIES = 3
KILLED = "its process was killed"


def requeue_dead(stored: StoredStudy, trials: Sequence[FrozenTrial]) -> int:
    """Fail those trials whose process is gone and queue their parameters again; returns how many.

    One whose successor is about to say more of its death is left to that, but not for ever.
    """
    running = [t for t in trials if t.state is TrialState.RUNNING]
    local = [t for t in running if is_dead(t)]
    awaited = {t._trial_id for t in local if is_anothers(t)}
    dead = {t._trial_id: KILLED for t in local if t._trial_id not in awaited}
    distant = {t._trial_id for t in running if is_elsewhere(t)}
    for trial_id in silent(stored.storage, sorted(distant | awaited), stored.suspected):
        dead[trial_id] = KILLED if trial_id in awaited else "its machine fell silent"
    for trial in running:
        if trial._trial_id in dead:
            requeue(stored, trial, dead[trial._trial_id])
    return len(dead)


def requeue_own(stored: StoredStudy, why: str) -> None:
    """The same for the trials of this process, which is about to end."""
    for trial in stored.trials(TrialState.RUNNING):
        if trial.user_attrs.get(WORKER) == worker_mark():
            requeue(stored, trial, why)


def requeue(stored: StoredStudy, trial: FrozenTrial, why: str, *, again: bool = True) -> None:
    """Queue a trial's parameters again and fail it: in this order, so that a kill in between loses nothing.

    One that was stopped while its parameters were sampled is only failed: the next trial samples the same. So is
    one that is not to be tried `again`.
    """
    trial = stored.storage.get_trial(trial._trial_id)  # the one given may be told meanwhile
    if trial.state.is_finished():
        return
    tries = int(trial.user_attrs.get("retries", 0))
    queued = any(t.user_attrs.get("retry_of") == trial.number for t in stored.trials())
    params = trial.system_attrs.get("fixed_params") or (trial.params if "key" in trial.user_attrs else None)
    comes_again = queued or (again and not params)
    if again and params and not queued and tries < MAX_RETRIES:
        kept = {START: trial.user_attrs[START]} if START in trial.user_attrs else {}
        kept |= {"retry_of": trial.number, "retries": tries + 1}
        # What a sampler notes when it proposes, such as NSGA-II's generation, it does not note of given parameters.
        noted = {k: v for k, v in trial.system_attrs.items() if not k.startswith(ARTIFACTS_ATTR_PREFIX)}
        noted["fixed_params"] = params
        stored.study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=noted, user_attrs=kept))
        comes_again = True
    with suppress(UpdateFinishedTrialError):  # its worker lives after all, and was quicker
        if comes_again:
            stored.storage.set_trial_user_attr(trial._trial_id, "interrupted", True)
        stored.storage.set_trial_user_attr(trial._trial_id, "why", why)
        stored.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
