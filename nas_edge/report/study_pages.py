"""What Optuna Dashboard is given of one study: notes, pictures, files and short attributes."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from bottle import HTTPResponse
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import FrozenTrial, TrialState

from nas_edge.engine.recipes import final_name, read_recipe
from nas_edge.errors import StorageError
from nas_edge.records import Evaluation
from nas_edge.report import words
from nas_edge.report.charts import waterfall
from nas_edge.report.drawing import LIGHT
from nas_edge.report.front import Present, front_rows
from nas_edge.report.markdown_text import plain
from nas_edge.report.notes import NO_OTHER, evaluated_note, linked, measured, study_facts, study_note, trial_note
from nas_edge.report.pictures import png
from nas_edge.samplers.history import UNDONE
from nas_edge.store.study import GOAL, StoredStudy, is_evaluated, limits_of
from nas_edge.store.tables import trained_longer

Answer = dict[str, Any]

# What a study holds is never run: neither a picture's scripts nor a page among the artifacts.
HARMLESS = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"}
HARMLESS["X-Content-Type-Options"] = "nosniff"
PICTURE = "steps.png"
SIZE = "size (kB)"
FINISHED = {state.name.capitalize() for state in TrialState if state.is_finished()}
FRESH_S = 5.0  # how long what was read of a study is shown
PATIENCE = 10  # and how many times as long as it took to read


def page_of(stored: StoredStudy) -> str:
    """Where the page of a study is."""
    return f"/dashboard/studies/{stored.study._study_id}"


class StudyPages:
    """What the pages of one study show."""

    def __init__(self, stored: StoredStudy) -> None:
        self._opened = stored
        self._link = lambda number: f"{page_of(stored)}/trials?numbers={number}"
        self._lock = threading.RLock()
        self._due = 0.0
        self._notes: dict[int, tuple[Any, str]] = {}  # of a trial: what it was made from, and the note
        self._served: dict[int, Answer] = {}  # the members of the front, as they were served

    @property
    def facts(self) -> list[Answer]:
        """The attributes of the study."""
        with self._lock:
            self._read()
            return _listed(self._facts)

    def complete(self, answer: Answer) -> None:
        """Put what is ours into the answer that the page of the study is made from."""
        with self._lock:
            self._read()
            if any(self._is_news(shown) for shown in answer["trials"]):
                self._due = 0.0
                self._read()
            for shown in (*answer["trials"], *answer["best_trials"]):
                trial = self._trials.get(shown["number"])
                if trial is None:
                    continue
                self._complete_trial(shown, trial)
                longer = final_name(trial, "")  # begins the names of what the study holds of it
                shown["artifacts"] += [a for a in answer["artifacts"] if a["filename"].startswith(longer)]
                if trial.number in self._front:
                    self._served[trial.number] = shown
            # To Optuna Dashboard those that break a limit are among the best.
            answer["best_trials"] = [self._served[n] for n in sorted(self._front) if n in self._served]
            answer["union_user_attrs"] = [{"key": name, "sortable": name == SIZE} for name in self._names]
            answer["user_attrs"] = _listed(self._facts)
            answer["note"]["body"] = answer["note"]["body"] or self._note

    def artifact(self, trial_id: int | None, artifact_id: str) -> HTTPResponse:
        """A file of the study or of a trial, or the picture of a trial, to be kept and not to be run."""
        with self._lock:
            self._read()
            trial = next((t for t in self._trials.values() if t._trial_id == trial_id), None)
        try:
            if trial is not None and artifact_id == _picture_id(trial):
                steps = self._evaluation(self._stored.evaluated_in(trial)).steps
                return _file(png(waterfall(steps, LIGHT)), PICTURE, "image/png")
            for owner in (trial, self._opened.study):
                for meta in () if owner is None else self._stored.noted(owner):
                    if meta.artifact_id == artifact_id:
                        return _file(self._opened.artifacts.open_reader(artifact_id), meta.filename, meta.mimetype)
        except (ArtifactNotFound, StorageError) as error:
            return HTTPResponse(f"the file is missing in {self._opened.where}: {error}", 404)
        return HTTPResponse("no such file", 404)

    # --- what is known of the study

    def _read(self) -> None:
        """Read it, unless that was done a moment ago."""
        began = time.monotonic()
        if began < self._due:
            return
        self._stored = stored = self._opened.snapshot()
        self._trials = {t.number: t for t in stored.trials()}
        self._front = {t.number: t for t in stored.front()}
        self._finals = stored.tables.finals(stored.config.name)
        present = Present.of(stored)
        self._measured, rows = present.measurements, front_rows(stored, present)
        self._beaten = {row.number: row.beaten_by for row in rows}
        self._facts, self._note = study_facts(stored), study_note(stored, rows, self._link)
        self._names = list(dict.fromkeys(name for t in self._trials.values() for name in self._attributes(t)))
        took = time.monotonic() - began
        self._due = began + took + max(FRESH_S, PATIENCE * took)

    def _is_news(self, shown: Answer) -> bool:
        """Whether a trial that is to be shown was not finished, or not there, when the study was read."""
        known = self._trials.get(shown["number"])
        return known is None or (shown["state"] in FINISHED and not known.state.is_finished())

    # --- its trials

    def _complete_trial(self, shown: Answer, trial: FrozenTrial) -> None:
        shown["constraints"] = list(limits_of(trial).values())
        shown["user_attrs"] = _listed(self._attributes(trial))
        if "values" in shown:
            shown["values"] = [_short(value) for value in shown["values"]]
        if trial.state is TrialState.COMPLETE:
            picture = {"artifact_id": _picture_id(trial), "filename": PICTURE, "mimetype": "image/png"}
            shown["artifacts"] = [*shown["artifacts"], {**picture, "encoding": None}]
        shown["note"]["body"] = shown["note"]["body"] or self._note_of(trial)

    def _attributes(self, trial: FrozenTrial) -> dict[str, str]:
        """What is worth a column, in short."""
        attrs, final = trial.user_attrs, self._finals.get(trial.number)
        shown: dict[str, str] = {name: attrs[name] for name in ("techniques", "accuracy", "latency") if name in attrs}
        if "size_bytes" in attrs:
            shown[SIZE] = f"{attrs['size_bytes'] / 1000:.1f}"
        if final is not None:
            shown["accuracy on test images"] = words.percent(final["test_accuracy"], 2)
            if found := self._measured.get(final["onnx_sha256"]):
                shown["latency measured at the end"] = measured(found)
        for name, excess in trial.constraints.items():
            shown[f"limit: {name.removeprefix(GOAL)}"] = "met" if excess <= 0 else f"exceeded by {excess:.3g}"
        if UNDONE in attrs:
            shown["undone"] = ", ".join(attrs[UNDONE])
        return shown | ({"why": attrs["why"]} if "why" in attrs else {})

    def _note_of(self, trial: FrozenTrial) -> str:
        if not is_evaluated(trial):
            return trial_note(trial, self._link)
        final = self._finals.get(trial.number)
        measurement = None if final is None else self._measured.get(final["onnx_sha256"])
        made_from, note = self._notes.get(trial.number, (None, ""))
        if made_from != (final, measurement):
            try:
                note = evaluated_note(
                    trial.number,
                    self._evaluation(trial),
                    study=self._stored.config.name,
                    picture=f"/artifacts/{self._stored.study._study_id}/{trial._trial_id}/{_picture_id(trial)}",
                    final=final,
                    measurement=measurement,
                )
            except StorageError as error:
                note = plain(error)
            self._notes[trial.number] = ((final, measurement), note)
        return f"{self._place(trial)}\n\n{note}"

    def _evaluation(self, trial: FrozenTrial) -> Evaluation:
        """What was found of a candidate, at last. Raises `StorageError`."""
        final = self._finals.get(trial.number)
        return read_recipe(self._stored, trial, final=trained_longer(final))[1]

    def _place(self, trial: FrozenTrial) -> str:
        """How a trial stands to the others."""
        if trial.number in self._front:
            better = self._beaten.get(trial.number)
            if better is not None:
                return (
                    f"**One of the best trade-offs** as the search saw it. After what was trained and measured at its "
                    f"end, {linked(better, self._link)} is better in something and as good in everything else."
                )
            return f"**One of the best trade-offs** (on the Pareto front): {NO_OTHER}."
        broken = [name for name, excess in limits_of(trial).items() if excess > 0]
        if broken:
            return f"**Breaks a limit** of the study: {plain(', '.join(broken))}."
        losses = self._stored.losses(trial.values)
        ahead = [
            number
            for number, other in self._front.items()
            if all(a <= b for a, b in zip(self._stored.losses(other.values), losses, strict=True))
        ]
        if not ahead:
            return ""
        return f"Not one of the best trade-offs: {linked(ahead[0], self._link)} is as good or better in everything."


def _picture_id(trial: FrozenTrial) -> str:
    """Looks like the name of a stored file, and is none."""
    return f"{trial._trial_id:x}-57e95"


def _short(value: float | str) -> float | str:
    """Four digits, as no latency is known better. Bytes are whole numbers and stay, and so does "inf"."""
    return value if isinstance(value, str) or value.is_integer() else float(f"{value:.4g}")


def _listed(attributes: Mapping[str, str]) -> list[Answer]:
    return [{"key": name, "value": value} for name, value in attributes.items()]


def _file(body: Any, name: str, kind: str) -> HTTPResponse:
    headers = {"Content-Type": kind, "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}", **HARMLESS}
    return HTTPResponse(body, **headers)
