"""A study in short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from optuna.trial import TrialState

from nas_edge.report.audit import latency_audit
from nas_edge.report.baseline import baseline_of
from nas_edge.report.front import FrontRow, front_rows
from nas_edge.report.selection import State
from nas_edge.spec import from_words
from nas_edge.store.database import shown
from nas_edge.store.processes import is_dead
from nas_edge.store.study import StoredStudy


def summary(stored: StoredStudy, front: Sequence[FrontRow] | None = None) -> dict[str, Any]:
    """What `search --json` and `show --json` print; `front` is what of the front is shown, by default all of it."""
    baseline = baseline_of(stored)
    return {
        "study": stored.config.name,
        "storage": shown_url(stored),
        "out": str(stored.folder),
        "data": stored.study.user_attrs.get("data"),
        "target": stored.study.user_attrs.get("target"),
        "counts": counts(stored),
        "teacher_accuracy": stored.study.user_attrs.get("teacher_accuracy"),
        "latency_audit": latency_audit(stored),
        "random_search": None if baseline is None else asdict(baseline),
        "front": [asdict(row) for row in (front_rows(stored) if front is None else front)],
    }


def shown_url(stored: StoredStudy) -> str:
    return shown(stored.url)


def counts(stored: StoredStudy) -> dict[str, int]:
    """Trials by how they ended, and in how many finished ones each technique acts: those undone are not counted.

    Those whose process is gone are `interrupted`: what goes on with the search does them again.
    """
    finished = stored.evaluated()
    on: dict[str, int] = {}
    for trial in finished:
        for technique in from_words(trial.user_attrs["techniques"]):
            on[technique] = on.get(technique, 0) + 1
    states = {"finished": len(finished)}
    for state in (State.REJECTED, State.FAILED):
        states[state.value] = len(stored.trials(TrialState[state.optuna.upper()]))
    dead = [is_dead(trial) for trial in stored.trials(TrialState.RUNNING)]
    states |= {State.RUNNING.value: dead.count(False), "interrupted": dead.count(True)}
    return {**states, **{f"with {name}": number for name, number in sorted(on.items())}}
