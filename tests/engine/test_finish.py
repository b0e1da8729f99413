"""The end of a search: the front is trained on, tested, measured and published."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from optuna.trial import TrialState
from rich.console import Console

from nas_edge import Evaluation, ExportError, Split, Target, evaluate
from nas_edge.cli.views import front_table
from nas_edge.engine import finals as finals_module
from nas_edge.engine import run
from nas_edge.engine.recipes import read_recipe
from nas_edge.export import accuracy
from nas_edge.plugins import Registry
from nas_edge.report.front import front_rows, trial_rows
from nas_edge.report.summary import counts, summary
from nas_edge.store.locate import locate
from nas_edge.store.marks import worker_mark
from nas_edge.store.processes import WORKER
from nas_edge.train.trainer import ImageTrainer

from ..cli.command import install
from ..studies import (
    NAS_EDGE,
    assert_whole,
    environment,
    found,
    opened,
    search,
    sha256,
    study_file,
    tiny_config,
    tiny_values,
)

LONGER = {"final_budget": 30.0, "finalists": 1}


def test_the_front_is_tested_measured_and_published(tiny: Registry, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, trials=4, train=LONGER)
    stored = search(config, tiny)
    session, _ = opened(config, tiny)
    finals = stored.tables.finals("tiny")
    front = stored.front()
    assert set(finals) == {t.number for t in front}
    assert [finals[t.number]["final"] for t in front] == [True] + [False] * (len(front) - 1)
    for row, trial in zip(front_rows(stored), front, strict=True):
        path, final = stored.model_path(trial.number), finals[trial.number]
        assert sha256(path) == final["onnx_sha256"]
        assert final["test_accuracy"] == row.test_accuracy == accuracy(path, session.data.test)
        assert final["accuracy"] == row.accuracy == accuracy(path, session.data.validation)
        assert row.measured_ms == row.latency_ms == pytest.approx(1e-5 * path.stat().st_size)
        assert row.size_bytes == path.stat().st_size
        spec, evaluation = read_recipe(stored, trial, final=row.trained_longer)
        assert spec.key == trial.user_attrs["key"] and evaluation.onnx_sha256 == final["onnx_sha256"]
    longer = finals[front[0].number]
    assert longer["accuracy"] > front[0].values[0] + 0.1  # 30 times the training
    assert longer["test_accuracy"] > 0.8


def test_finishing_again_changes_nothing(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, train=LONGER)
    stored = search(config, tiny)
    finals, files = stored.tables.finals("tiny"), {p: p.stat().st_mtime_ns for p in (tmp_path / "models").iterdir()}

    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(ImageTrainer, "fit", refuse)
    again = search(config, tiny)
    assert again.tables.finals("tiny") == finals
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "models").iterdir()} == files
    next(iter(files)).unlink()  # a lost file is copied out of the artifacts
    search(config, tiny)
    assert {p: sha256(p) for p in (tmp_path / "models").iterdir()} == {
        stored.model_path(number): final["onnx_sha256"] for number, final in finals.items()
    }


def test_two_searches_that_end_at_once_train_and_publish_once(
    tiny: Registry, tiny_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the file of one would be published under the hash that the other noted."""
    with monkeypatch.context() as patched:
        patched.setattr(run, "finish", lambda *_, **__: None)
        search(tiny_config(tmp_path / "run", trials=4, train=LONGER), tiny)
    file = study_file(tmp_path / "study.toml", tiny_values(tmp_path / "run", trials=4, train=LONGER))
    searches = [
        subprocess.Popen((*NAS_EDGE, "search", file), stderr=subprocess.PIPE, text=True, env=environment(tiny_site))
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in searches]
    assert [process.returncode for process in searches] == [0, 0], said
    stored = locate(str(tmp_path / "run"), None)
    assert_whole(stored, 4, tmp_path / "run")
    assert sum("trained for longer" in text for text in said) == 1
    longer = [m for m in stored.noted(stored.study) if m.filename.startswith("final-")]
    assert len(longer) == 2, "a model and its recipe"


NOTED = """
import os, pathlib, sys, time
from dataclasses import dataclass
from nas_edge import Technique, hookimpl

@dataclass(frozen=True)
class Config:
    pass

class Noted(Technique):
    name = "noted"
    config_type = Config
    def suggest(self, scope):
        return Config()
    def objective(self, config, context):  # of each training
        if context.samples <= 1000:  # of a candidate
            return None
        notes = pathlib.Path(os.environ["NOTES"])
        with notes.open("a") as file:
            print(os.getpid(), file=file, flush=True)
        if os.environ.get("DIES_IN") and os.environ["DIES_IN"] in " ".join(sys.orig_argv):
            os._exit(3)
        time.sleep(5.0)
        return None

@hookimpl
def register_techniques(register):
    register(Noted())
"""


@pytest.mark.parametrize("dies", [False, True])
def test_workers_share_out_the_longer_training(dies: bool, tiny: Registry, tiny_site: Path, tmp_path: Path) -> None:
    """One that dies over a trial costs that trial's longer training, in whichever worker."""
    site, out, notes = tmp_path / "site", tmp_path / "study", tmp_path / "notes"
    site.mkdir()
    install(site, "noted", NOTED)
    given = {"trials": 6, "techniques": ["noted"], "calibration_seconds": 5.0, "train": {**LONGER, "finalists": 3}}
    values = {**tiny_values(out, **given), "set": {"noted.enabled": True}}
    file = study_file(tmp_path / "study.toml", values)
    variables = environment(
        tiny_site,
        NOTES=str(notes),
        DIES_IN="nas_edge.engine.workers" if dies else "",
        NAS_EDGE_LOAD_PLUGINS="tiny,noted",
    )
    variables["PYTHONPATH"] += os.pathsep + str(site)
    command = (*NAS_EDGE, "search", file, "--workers", "2")
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    stored = locate(str(out), None)
    assert_whole(stored, 6, tmp_path)
    front, finals = stored.front(), stored.tables.finals("tiny")
    assert len(front) >= 3 and all(finals[t.number]["retrained"] for t in front[:3])
    processes = notes.read_text().split()
    assert len(processes) == 3 and len(set(processes)) > 1, "each was trained once, by more than one process"
    assert sum(finals[t.number]["final"] for t in front) == 3 - dies
    said = "stays as it was found: trained for longer, its process ended with exit status 3"
    assert (said in done.stderr) == dies, done.stderr


@pytest.mark.parametrize("outcome", ["too slow", "fails"])
def test_a_longer_training_that_cannot_be_used_is_left_alone(
    outcome: str, tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = evaluate.evaluate

    def judged(*arguments: Any) -> tuple[Any, Evaluation]:
        if outcome == "fails":
            raise ExportError("an operator cannot be written")
        candidate, evaluation = original(*arguments)
        return candidate, Evaluation(**{**vars(evaluation), "latency_ms": 9.0})

    monkeypatch.setattr(finals_module, "evaluate", judged)
    stored = search(tiny_config(tmp_path, trials=2, max_latency_ms=5.0, train=LONGER), tiny)
    for number, final in stored.tables.finals("tiny").items():
        assert not final["final"]
        assert final["onnx_sha256"] == stored.trial(number).user_attrs["onnx_sha256"]
        assert final["accuracy"] == stored.trial(number).values[0]


@pytest.mark.parametrize(("won", "lost", "kept"), [(0, 0, True), (1, 2, True), (1, 5, False)])
def test_a_longer_training_is_kept_unless_it_is_worse_by_more_than_chance(
    won: int, lost: int, kept: bool, tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100 images: the standard errors are 0, 1.7 and 2.4 points."""

    def right(path: Path, split: Split, target: Target) -> npt.NDArray[np.bool_]:
        image = np.arange(100)
        return image >= won if path.name == "searched.onnx" else image < 100 - lost

    monkeypatch.setattr(finals_module, "hits", right)
    stored = search(tiny_config(tmp_path, trials=2, train=LONGER), tiny)
    finals = stored.tables.finals("tiny")
    assert finals[stored.front()[0].number]["final"] == kept


def test_the_front_is_told_as_the_longer_training_left_it(tiny: Registry, tmp_path: Path) -> None:
    """The most accurate first, and with who is better by now."""
    stored = search(tiny_config(tmp_path, trials=6), tiny)
    before = front_rows(stored)
    assert len(before) >= 2 and {row.beaten_by for row in before} == {None}
    fastest = before[-1]
    final = stored.tables.finals("tiny")[fastest.number]
    stored.tables.add_final("tiny", fastest.number, {**final, "accuracy": before[0].accuracy})
    rows = front_rows(stored)
    assert [row.number for row in rows] == [fastest.number, *(row.number for row in before[:-1])]
    assert [row.beaten_by for row in rows] == [None] + [fastest.number] * (len(rows) - 1)
    shown = Console(width=200, file=io.StringIO())
    shown.print(front_table(rows, len(rows)))
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert text.count(f"beaten by {fastest.number}") == len(rows) - 1


def test_three_objectives_and_the_summary(tiny: Registry, tmp_path: Path) -> None:
    config = tiny_config(
        tmp_path, trials=4, objectives=["accuracy", "latency_ms", "size_bytes"], techniques=["quantize"]
    )
    stored = search(config, tiny)
    complete = stored.trials(TrialState.COMPLETE)
    assert [t.values[2] for t in complete] == [t.user_attrs["size_bytes"] for t in complete]
    on = sum(t.params["quantize.enabled"] for t in complete)
    assert counts(stored) == {
        "finished": 4,
        "rejected": 0,
        "failed": 0,
        "running": 0,
        "interrupted": 0,
        "with quantize": on,
    }
    told = summary(stored)
    assert (told["study"], told["out"]) == ("tiny", str(tmp_path))
    assert {row["number"] for row in told["front"]} == {t.number for t in stored.study.best_trials}
    assert [row["accuracy"] for row in told["front"]] == sorted((r["accuracy"] for r in told["front"]), reverse=True)
    assert [row["number"] for row in trial_rows(stored)] == [0, 1, 2, 3]
    assert len(found(stored)) == 4
    for started in (worker_mark()["started"], "0"):  # of this process, and of one that is gone
        stored.study.ask().set_user_attr(WORKER, {**worker_mark(), "started": started})
    assert (counts(stored)["running"], counts(stored)["interrupted"]) == (1, 1)
