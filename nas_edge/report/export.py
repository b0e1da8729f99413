"""`nas-edge export`: what ships of one trial, or of each member of the front."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas_edge import __version__, classify
from nas_edge.engine.finish import finalise, is_published
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import read_recipe
from nas_edge.engine.session import Session
from nas_edge.errors import StorageError, UserError
from nas_edge.export.exact_int8 import needs_exact_sums
from nas_edge.export.ort_format import convert_to_ort
from nas_edge.plugins import load_plugins
from nas_edge.report.audit import latency_audit
from nas_edge.report.card import Facts, card
from nas_edge.report.cells import FRONT, front_cells
from nas_edge.report.front import FrontRow, front_rows, measurement_of
from nas_edge.report.markdown_text import plain, table
from nas_edge.store.study import StoredStudy

LIBRARIES = ("torch", "onnx", "onnxruntime", "optuna", "torch-pruning", "numpy")
MODEL, RECIPE, CARD, SCRIPT = "model.onnx", "recipe.json", "card.md", "run.py"
INDEX = "index"


def export_trial(
    stored: StoredStudy, number: int, folder: Path, progress: Progress, *, ort: bool = False
) -> list[Path]:
    """Write a finished trial's `model.onnx`, `recipe.json`, `card.md` and `run.py`, with `ort` also `model.ort`.

    A trial that the search did not test yet is tested and measured now, which needs the data and the target.
    Raises `UserError` for a trial that holds no model, and `StorageError`.
    """
    trial = stored.evaluated_in(stored.trial(number))
    if trial.state is not TrialState.COMPLETE:
        why = trial.user_attrs.get("why", trial.state.name.lower())
        raise UserError(f"trial {trial.number} has no model to export ({why}); `nas-edge show` lists those that have")
    _test(stored, [trial], progress)
    with _writing(folder):
        return _write(stored, trial, folder, ort=ort)


def export_front(stored: StoredStudy, folder: Path, progress: Progress, *, ort: bool = False) -> list[Path]:
    """The same of each member of the front, in `trial-NUMBER`, and `index.md` and `index.json` of them all.

    Raises `UserError` where the front is empty.
    """
    trials = stored.front()
    if not trials:
        raise UserError(f"study {stored.config.name!r} has no finished trial that meets its limits yet; search on")
    _test(stored, trials, progress)
    with _writing(folder):
        paths = [path for t in trials for path in _write(stored, t, folder / _name(t.number), ort=ort)]
        return [*_write_index(stored, front_rows(stored), folder), *paths]


def _name(number: int) -> str:
    return f"trial-{number:04d}"


def _test(stored: StoredStudy, trials: Sequence[FrozenTrial], progress: Progress) -> None:
    """Test, measure and publish those that are not yet."""
    finals = stored.tables.finals(stored.config.name)
    due = [t for t in trials if t.number not in finals or not is_published(stored, t.number, finals[t.number])]
    if due:
        session = Session.open(stored.config, load_plugins())
        stored.check(stored.config, session.facts)
        finalise(session, stored, due, progress)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StorageError(f"cannot write into {folder}: {error.strerror}; choose another -o") from None


def _write(stored: StoredStudy, trial: FrozenTrial, folder: Path, *, ort: bool) -> list[Path]:
    final = stored.tables.finals(stored.config.name)[trial.number]
    spec, evaluation = read_recipe(stored, trial, final=final["final"])
    measurement, study = measurement_of(stored, final), _study(stored, trial, final)
    recipe = {
        "spec": spec.to_json(),
        "evaluation": {**asdict(evaluation), "test_accuracy": final["test_accuracy"]},
        "study": study,
        "versions": {"nas-edge": __version__, **{name: version(name) for name in LIBRARIES}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    _copy(stored.model_path(trial.number), folder / MODEL)
    architecture = str(measurement.fingerprint.get("architecture", "")) if measurement else ""
    made = convert_to_ort(folder / MODEL, folder, architecture) if ort else []
    ort_bytes = made[0].stat().st_size if made else None
    exact = needs_exact_sums(folder / MODEL)
    facts = Facts(spec, evaluation, final, study, measurement, latency_audit(stored), exact, ort_bytes)
    (folder / RECIPE).write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card(facts), encoding="utf-8")
    shutil.copyfile(classify.__file__, folder / SCRIPT)
    return [*(folder / name for name in (MODEL, RECIPE, CARD, SCRIPT)), *made]


def _study(stored: StoredStudy, trial: FrozenTrial, final: Mapping[str, Any]) -> dict[str, Any]:
    attrs = stored.study.user_attrs
    return {
        "name": stored.config.name,
        "trial": trial.number,
        "trained_longer": final["final"],
        "max_latency_ms": stored.config.max_latency_ms,
        "config": attrs["config"],
        "data": attrs["data"],
        "plugins": attrs["plugins"],
        "target": attrs["target"],
    }


def _copy(model: Path, to: Path) -> None:
    part = to.with_suffix(".part")
    shutil.copyfile(model, part)
    part.replace(to)


def _write_index(stored: StoredStudy, front: Sequence[FrontRow], folder: Path) -> list[Path]:
    """The front as it is in the folder: a table to read, and the same for scripts."""
    rows = [(*map(plain, front_cells(row)), f"[{_name(row.number)}]({_name(row.number)}/{CARD})") for row in front]
    lines = [f"# The front of {plain(stored.config.name)}", "", *table((*FRONT, "model"), rows), ""]
    models = [{**asdict(row), "model": f"{_name(row.number)}/{MODEL}"} for row in front]
    index = {"study": stored.config.name, "front": models}
    (folder / f"{INDEX}.md").write_text("\n".join(lines), encoding="utf-8")
    (folder / f"{INDEX}.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return [folder / f"{INDEX}.md", folder / f"{INDEX}.json"]
