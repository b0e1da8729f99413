"""What a compression reached: the given model, the one to ship, and each goal as it stands on the test split."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas_edge.config import StudyConfig
from nas_edge.engine.progress import Progress
from nas_edge.engine.standing import Standing, Standings
from nas_edge.errors import UserError
from nas_edge.goals import DROP, Goal, Known, all_met, judge
from nas_edge.report.study import Study
from nas_edge.report.summary import summary
from nas_edge.store.study import StoredStudy


@dataclass(frozen=True)
class Compressed:
    """One model of a compression. `accuracy` is on validation, `test_accuracy` on the test split; both are fractions.

    `latency_source` is "measured" or "predicted"; `test_accuracy` is None before the end.
    """

    number: int
    accuracy: float
    test_accuracy: float | None
    latency_ms: float
    latency_source: str
    size_bytes: int
    techniques: str


@dataclass(frozen=True)
class Compression:
    """The result of `nas_edge.compress`.

    `baseline` is the model as it was given, `best` the one to ship, whose files are `files`; `goals` are held on the
    test split, where the search chose on validation. `met` says that all of them are, by a measured latency.
    """

    stored: StoredStudy
    baseline: Compressed
    best: Compressed
    goals: tuple[Goal, ...]
    met: bool
    files: tuple[Path, ...] = ()

    @classmethod
    def of(cls, stored: StoredStudy, files: tuple[Path, ...] = ()) -> Compression | None:
        """None for a search, and for a compression that did not evaluate the given model yet."""
        standings = Standings.of(stored)
        if standings is None:
            return None
        given, best = _row(stored, standings.given), _row(stored, standings.best)
        goals = tuple(judge(standings.goals, _shown(given, best), _shown(best, given)))
        measured = given.latency_source == best.latency_source == "measured"
        return cls(stored, given, best, goals, measured and all_met(goals), files)

    @property
    def study(self) -> Study:
        """All that was tried."""
        return Study(self.stored)

    @property
    def validation_drop(self) -> float:
        """The accuracy lost on the split that the search chose on, in points."""
        return 100 * (self.baseline.accuracy - self.best.accuracy)

    @property
    def chance_points(self) -> float:
        """The standard error of the difference of the two accuracies on the test split, at most, in points:
        `100 sqrt((p(1 - p) + q(1 - q)) / n)`, which takes them for independent."""
        pair = [row.accuracy if row.test_accuracy is None else row.test_accuracy for row in (self.baseline, self.best)]
        images = self.stored.study.user_attrs["data"]["images"][2]
        return 100 * math.sqrt(sum(p * (1 - p) for p in pair) / images)

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints of it beside the study."""
        return {
            "met": self.met,
            "baseline": asdict(self.baseline),
            "best": asdict(self.best),
            "goals": [self._goal(goal) for goal in self.goals],
        }

    def _goal(self, goal: Goal) -> dict[str, Any]:
        row = {name: getattr(goal, name) for name in ("name", "unit", "wanted", "reached", "met", "missing")}
        if goal.name != DROP:
            return row
        return {**row, "reached_on_validation": self.validation_drop, "standard_error": self.chance_points}


def _row(stored: StoredStudy, standing: Standing) -> Compressed:
    final = stored.tables.finals(stored.config.name).get(standing.trial.number) or {}
    known, attrs = standing.known, standing.trial.user_attrs
    return Compressed(
        number=standing.trial.number,
        accuracy=known.accuracy,
        test_accuracy=final.get("test_accuracy"),
        latency_ms=known.latency_ms,
        latency_source="measured" if standing.measured else attrs["latency_source"],
        size_bytes=known.size_bytes,
        techniques=final.get("techniques") or attrs["techniques"],
    )


def _shown(model: Compressed, other: Compressed) -> Known:
    """The figures that the goals are held against: on the test split where both were tested."""
    tested = model.test_accuracy is not None and other.test_accuracy is not None
    accuracy = model.test_accuracy if tested else model.accuracy
    return Known(accuracy or 0.0, model.latency_ms, model.size_bytes)


def run_compression(config: StudyConfig, progress: Progress | None = None) -> Compression:
    """Compress until the goals are met or the budget is spent, and write the best model's files to `config.folder`."""
    from nas_edge.engine.run import run_search  # with torch, which reports do without
    from nas_edge.report.export import export_trial

    progress = progress or Progress()
    stored = run_search(config, progress)
    found = Compression.of(stored)
    if found is None:
        raise UserError(
            "the budget ended before the given model was evaluated; run the same command again, with a longer --timeout"
        )
    files = export_trial(stored, found.best.number, stored.folder, progress)
    return Compression(stored, found.baseline, found.best, found.goals, found.met, tuple(files))


def compression_summary(found: Compression) -> dict[str, Any]:
    """What `nas-edge compress --json` prints."""
    return {**found.to_json(), "files": [str(path) for path in found.files], **summary(found.stored)}
