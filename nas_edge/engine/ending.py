"""When a search ends before its trials are done, and when it says that it gains nothing any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from nas_edge.conditions import Until
from nas_edge.engine.audit import Auditor, measure_searched
from nas_edge.engine.compress import goals_met
from nas_edge.engine.progress import Progress
from nas_edge.engine.session import Session
from nas_edge.records import Measurement
from nas_edge.store.study import StoredStudy

PLATEAU, PLATEAU_SHARE = 20, 0.3  # trials without a new member of the front, and their share of all


@dataclass
class Ending:
    """Asked after each finished trial: audits where that is due, and says whether the search is to end."""

    session: Session
    stored: StoredStudy
    progress: Progress

    def __post_init__(self) -> None:
        self._auditor = Auditor(self.session, self.stored, self.progress)
        self._doubted: set[int] = set()  # trials that may meet the goals of a compression by chance

    def after_trial(self, finished: int) -> bool:
        self._auditor.after_trial(finished)
        self._notice_plateau()
        return self.reached()

    def reached(self) -> bool:
        """Whether the goals of a compression are met, or what a search is to reach is reached."""
        asked = self.session, self.stored, self.progress
        return goals_met(*asked, self._doubted) or until_measured(*asked)

    def _notice_plateau(self) -> None:
        """Say so each time that as many trials again have brought no new member of the front."""
        trials = self.stored.evaluated()
        newest = max((t.number for t in self.stored.front(trials)), default=0)
        since = sum(t.number > newest for t in trials)
        length = max(PLATEAU, round(PLATEAU_SHARE * len(trials)))
        if since and since % length == 0:
            self.progress.say(f"no new best trade-off in the last {since} trials; an interrupt ends the search well")


def reached_by_prediction(stored: StoredStudy) -> Callable[[int], bool]:
    """For workers side by side: what a search is to reach, as far as predictions say."""
    until = _until(stored)
    return lambda finished: until is not None and bool(_hopeful(stored, until))


def until_measured(session: Session, stored: StoredStudy, progress: Progress) -> bool:
    """Whether a trial reaches what its search is to reach by its measured latency: what may is measured now."""
    until = _until(stored)
    hopeful = [] if until is None else _hopeful(stored, until)
    if until is None or not hopeful:
        return False

    def measured(trial: FrozenTrial) -> Measurement | None:
        return stored.tables.measurement(trial.user_attrs["onnx_sha256"], session.target_key)

    if new := [trial for trial in hopeful if measured(trial) is None]:
        measure_searched(session, stored, new, progress, "whether the search is at its end")
    for trial in hopeful:
        found = measured(trial)
        if found is not None and until.met(_figures(trial, found.p50_ms)):
            progress.say(f"trial {trial.number} reaches {stored.config.until}")
            return True
    return False


def _until(stored: StoredStudy) -> Until | None:
    return None if stored.config.until is None else Until.parse(stored.config.until)


def _hopeful(stored: StoredStudy, until: Until) -> list[FrozenTrial]:
    """The finished trials that reach it by latencies as the search found them."""
    return [t for t in stored.evaluated() if until.met(_figures(t, t.values[1]))]


def _figures(trial: FrozenTrial, latency_ms: float) -> dict[str, float]:
    return {"accuracy": trial.values[0], "latency_ms": latency_ms, "size_bytes": trial.user_attrs["size_bytes"]}
