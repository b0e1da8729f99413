"""A study as Python sees it: what `nas_edge.search` and `nas_edge.load_study` return."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from nas_edge.config import StudyConfig
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import read_recipe
from nas_edge.errors import UserError
from nas_edge.records import Evaluation
from nas_edge.report.front import FrontRow, front_rows, trial_rows
from nas_edge.spec import CandidateSpec
from nas_edge.store.study import StoredStudy
from nas_edge.store.tables import trained_longer

if TYPE_CHECKING:
    import pandas as pd

SHOWN = ("number", "accuracy", "test_accuracy", "latency_ms", "size_bytes", "techniques")  # in a notebook
FORMATS = {"accuracy": "{:.2%}", "test_accuracy": "{:.2%}", "latency_ms": "{:.3f}", "size_bytes": "{:,}"}


@dataclass(frozen=True)
class TrialRow:
    """One trial. `accuracy` is a fraction on validation; `latency_ms` is as the search used it.

    `repredicted_ms` is what the profile in use says where the search used an earlier one, `measured_ms` what was
    measured. `state` is Optuna's, in small letters; `why` says it of a trial that was rejected or failed.
    """

    number: int
    state: str
    accuracy: float | None
    latency_ms: float | None
    repredicted_ms: float | None
    measured_ms: float | None
    size_bytes: int | None
    techniques: str | None
    why: str | None


@dataclass(frozen=True)
class Study:
    """A stored study, read anew whenever it is asked: it may be searched on meanwhile."""

    stored: StoredStudy

    @property
    def name(self) -> str:
        return self.stored.config.name

    @property
    def config(self) -> StudyConfig:
        """What it was asked to do: the fields are the flags of `nas-edge search`."""
        return self.stored.config

    @property
    def folder(self) -> Path:
        """Where its files are; the ONNX files of the front in `models`."""
        return self.stored.folder

    @property
    def optuna(self) -> optuna.Study:
        """The plain Optuna study, for its tools. Its objectives are `accuracy`, `latency_ms` and, if asked, bytes."""
        return self.stored.study

    @property
    def front(self) -> list[FrontRow]:
        """The Pareto front, the most accurate first: a fraction, ms for one image, bytes."""
        return front_rows(self.stored.snapshot())

    @property
    def trials(self) -> list[TrialRow]:
        """All trials in their order, also those rejected, failed and running."""
        return [TrialRow(**row) for row in trial_rows(self.stored.snapshot())]

    def best(self, max_latency_ms: float | None = None) -> FrontRow:
        """The most accurate member of the front that takes at most so many ms; by default the study's own budget.

        Raises `UserError` naming the fastest where none is so fast, and where there is no front yet.
        """
        limit = self.config.max_latency_ms if max_latency_ms is None else max_latency_ms
        front = self.front
        if not front:
            raise UserError(f"study {self.name!r} has no finished trial that meets its limits yet; search on")
        able = [row for row in front if limit is None or row.latency_ms <= limit]
        if not able:
            fastest = min(front, key=lambda row: row.latency_ms)
            raise UserError(
                f"no trial of study {self.name!r} takes at most {limit} ms; the fastest is trial {fastest.number} with "
                f"{fastest.latency_ms:.3g} ms: allow as much, or search on"
            )
        return able[0]

    def candidate(self, number: int) -> tuple[CandidateSpec, Evaluation]:
        """What an evaluated trial was, and what each of its steps did. Raises `UserError` for one that was not."""
        trial = self.stored.trial(number)
        if trial.state is not optuna.trial.TrialState.COMPLETE:
            raise UserError(
                f"trial {number} of study {self.name!r} is {trial.state.name.lower()}: choose a finished one"
            )
        trial = self.stored.evaluated_in(trial)
        final = self.stored.tables.finals(self.name).get(trial.number)
        return read_recipe(self.stored, trial, final=trained_longer(final))

    def export(
        self, number: int | None, folder: str | Path, *, ort: bool = False, progress: Progress | None = None
    ) -> list[Path]:
        """Write a trial's model.onnx, recipe.json, card.md and run.py, as `nas-edge export` does; their paths.

        None is each member of the front, in a folder of its own, with an index (`--all-front`). With `ort` also
        model.ort, for mobile and reduced builds of ONNX Runtime. Raises `UserError` for a trial without a model, and
        for an empty front.
        """
        from nas_edge.report.export import export_front, export_trial  # with onnxruntime, which looking does without

        heard = progress or Progress()
        if number is None:
            return export_front(self.stored, Path(folder), heard, ort=ort)
        return export_trial(self.stored, number, Path(folder), heard, ort=ort)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report, as `nas-edge report` does; the file's name says the format. By default in its folder."""
        from nas_edge.report.whole import StudyReport
        from nas_edge.report.writing import write_report

        return write_report(StudyReport.of(self.stored), Path(path) if path else self.folder / "report.html")

    def frame(self, *, front: bool = False) -> pd.DataFrame:
        """All trials, or the front, as a table of pandas with the trial's number as index.

        Its columns are the fields of `TrialRow` or `FrontRow`. Raises `UserError` where pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UserError("pandas is not installed; `pip install 'nas-edge[notebook]'` installs it") from None
        kind = FrontRow if front else TrialRow
        rows: Sequence[FrontRow | TrialRow] = self.front if front else self.trials
        columns = list(kind.__dataclass_fields__)
        return pd.DataFrame([asdict(row) for row in rows], columns=columns).set_index("number")

    def __repr__(self) -> str:
        finished, front = self.stored.finished(), len(self.stored.front())
        return f"<Study {self.name!r}: {finished} evaluated candidates, {front} on the front; {self.folder}>"

    def _repr_html_(self) -> str:
        """The front, in a notebook."""
        head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in SHOWN)
        rows = "".join(f"<tr>{''.join(_cell(row, name) for name in SHOWN)}</tr>" for row in self.front)
        return f"<p>{html.escape(repr(self))}</p><table><tr>{head}</tr>{rows}</table>"


def _cell(row: FrontRow, name: str) -> str:
    value = getattr(row, name)
    return f"<td>{'-' if value is None else html.escape(FORMATS.get(name, '{}').format(value))}</td>"
