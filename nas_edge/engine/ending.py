"""When a search ends before its trials are done, and when it says that it gains nothing any more."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from nas_edge.engine.audit import Auditor, measure_missing, searched_models
from nas_edge.engine.compress import goals_met
from nas_edge.engine.progress import Progress
from nas_edge.engine.session import Session
from nas_edge.errors import MeasurementError
from nas_edge.store.study import StoredStudy
from nas_edge.until import Until

PLATEAU, PLATEAU_SHARE = 20, 0.3  # trials without a new member of the front, and their share of all


@dataclass
class Ending:
    """Asked after each finished trial: audits where that is due, and says whether the search is to end."""

    session: Session
    stored: StoredStudy
    progress: Progress

    def __post_init__(self) -> None:
        self._auditor = Auditor(self.session, self.stored, self.progress)

    def after_trial(self, finished: int) -> bool:
        self._auditor.after_trial(finished)
        self._notice_plateau()
        return self.reached()

    def reached(self) -> bool:
        """Whether the goals of a compression are met, or what a search is to reach is reached."""
        return goals_met(self.session, self.stored, self.progress) or until_measured(
            self.session, self.stored, self.progress
        )

    def _notice_plateau(self) -> None:
        """Say so each time that as many trials again have brought no new member of the front."""
        trials = self.stored.trials(TrialState.COMPLETE)
        newest = max((t.number for t in self.stored.front(trials)), default=0)
        since = sum(t.number > newest for t in trials)
        length = max(PLATEAU, round(PLATEAU_SHARE * len(trials)))
        if since and since % length == 0:
            self.progress.say(f"no new best trade-off in the last {since} trials; an interrupt ends the search well")


def reached_by_prediction(stored: StoredStudy) -> Callable[[int], bool]:
    """For workers side by side: what a search is to reach, as far as predictions say."""
    return lambda finished: bool(until_predicted(stored))


def until_predicted(stored: StoredStudy) -> list[FrozenTrial]:
    """The finished trials that reach what their search is to reach, by latencies as they were found."""
    if stored.config.until is None:
        return []
    until = Until.parse(stored.config.until)
    return [t for t in stored.trials(TrialState.COMPLETE) if until.met(_figures(t, t.values[1]))]


def until_measured(session: Session, stored: StoredStudy, progress: Progress) -> bool:
    """Whether a trial reaches what its search is to reach by its measured latency: what may is measured now.

    A target that cannot be measured costs a warning.
    """
    hopeful = until_predicted(stored)
    if not hopeful or stored.config.until is None:
        return False
    until = Until.parse(stored.config.until)
    try:
        with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
            measure_missing(session, stored, searched_models(stored, hopeful, Path(folder)), progress)
    except MeasurementError as error:
        progress.warn(f"whether the search is at its end is not known yet: {error}")
        return False
    progress.phase("Searching")
    for trial in hopeful:
        measured = stored.tables.measurement(trial.user_attrs["onnx_sha256"], session.target_key)
        if measured is not None and until.met(_figures(trial, measured.p50_ms)):
            progress.say(f"trial {trial.number} reaches {stored.config.until}")
            return True
    return False


def _figures(trial: FrozenTrial, latency_ms: float) -> dict[str, float]:
    return {"accuracy": trial.values[0], "latency_ms": latency_ms, "size_bytes": trial.user_attrs["size_bytes"]}
