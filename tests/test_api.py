"""The command line's verbs from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import optuna
import pytest
import torch
from nbclient import NotebookClient
from optuna.trial import TrialState

import nas_edge
from nas_edge import PluginError, UserError
from nas_edge.data.arrays import pack
from nas_edge.engine.compress import compress_config
from nas_edge.engine.progress import Progress
from nas_edge.goals import Goals
from nas_edge.models import live_models, live_name
from nas_edge.plugins import Registry

from .compressions import NETWORK, QUICK
from .studies import TRAIN, assert_whole, keep_profile, tiny_config, tiny_values

BOWL = 40


@pytest.mark.alone
def test_a_search_from_python_on_this_machine(tiny: Registry, tmp_path: Path) -> None:
    """With the real target: predicted by its profile, and measured at the end."""
    values = {**tiny_values(tmp_path), "target": "local", "trials": 1}
    keep_profile(tiny_config(tmp_path, target="local"), tiny)
    study = nas_edge.search(**values)
    assert_whole(study.stored, 1, tmp_path)
    (row,) = study.front
    assert row.measured_ms is not None and 0 < row.measured_ms < 10
    assert row.measured_low_ms is not None and row.measured_low_ms <= row.measured_ms
    again = nas_edge.load_study(tmp_path)
    assert len(again.trials) == 1 and again.config.target == "local"


def test_a_study_file_with_options_on_top(tiny: Registry, tmp_path: Path) -> None:
    from .studies import study_file

    file = study_file(tmp_path / "study.toml", tiny_values(tmp_path / "out"))
    keep_profile(tiny_config(tmp_path / "out"), tiny)
    study = nas_edge.search(file, trials=1, seed=4)
    assert study.config.seed == 4 and len(study.trials) == 1
    with pytest.raises(UserError, match="unknown key 'trails'; did you mean 'trials'"):
        nas_edge.search(trails=3)


@pytest.mark.alone
def test_a_calibration_from_python(tiny: Registry) -> None:
    """Of a target that offers no campaign: networks are made, and then measured."""
    heard: list[int] = []

    class Counting(Progress):
        def calibrated(self, networks: int, seconds: float, error: float | None) -> None:
            heard.append(networks)

    profile = nas_edge.calibrate(
        space="tiny", target="bench", techniques=[], train_images=100, calibration_seconds=5.0, progress=Counting()
    )
    assert profile.target == "bench" and profile.error.networks >= 8
    assert heard[-1] == profile.error.networks
    assert profile.error.median < 0.05  # the latency is linear in the size of the file


class Photos:
    """A data set as torch knows it: 120 grey images of 8 pixels, bright or dark."""

    classes = ("dark", "bright")

    def __len__(self) -> int:
        return 120

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(number))
        return (image + number % 2) / 2, number % 2


def test_a_dataset_of_python_is_searched_and_gone_on_with_by_name(tiny: Registry, tmp_path: Path) -> None:
    """It is stored with the study: other processes, and the command line, have it too."""
    values = {**tiny_values(tmp_path, train_images=60), "data": Photos(), "trials": 2}
    del values["study"]
    keep_profile(tiny_config(tmp_path, data=f"arrays:{pack(Photos(), tmp_path)}", train_images=60), tiny)
    study = nas_edge.search(**values)
    assert study.name == "photos" and study.optuna.user_attrs["data"]["classes"] == ["dark", "bright"]
    assert [row.state for row in study.trials] == ["complete"] * 2
    config = study.config
    assert config.data.startswith(f"arrays:{tmp_path}/data-") and Path(config.data.partition(":")[2]).is_file()
    again = nas_edge.search(**{**config.model_dump(), "trials": 3})
    assert len(again.trials) == 3 and len([*tmp_path.glob("data-*")]) == 1


def test_results_are_objects_and_frames(tiny: Registry, tmp_path: Path) -> None:
    keep_profile(tiny_config(tmp_path), tiny)
    study = nas_edge.search(**tiny_values(tmp_path, trials=4))
    trials, front = study.frame(), study.frame(front=True)
    assert trials.index.tolist() == [0, 1, 2, 3] and set(trials["state"]) == {"complete"}
    assert trials["accuracy"].tolist() == [t.values[0] for t in study.optuna.trials]
    assert front.index.tolist() == [row.number for row in study.front] == [t.number for t in study.stored.front()]
    assert trials["accuracy"].dtype == trials["latency_ms"].dtype == "float64"
    best = study.best()
    assert best == study.front[0] and best.accuracy == trials["accuracy"].max()
    fastest = study.front[-1]
    assert study.best(fastest.latency_ms) == fastest
    with pytest.raises(UserError, match=rf"takes at most 1e-09 ms; the fastest is trial {fastest.number} with"):
        study.best(1e-9)
    spec, evaluation = study.candidate(best.number)
    assert (
        spec.arch.space == "tiny"
        and evaluation.onnx_sha256 == study.stored.trial(best.number).user_attrs["onnx_sha256"]
    )
    assert [path.name for path in study.export(best.number, tmp_path / "out")] == [
        "model.onnx",
        "recipe.json",
        "card.md",
        "run.py",
    ]
    assert repr(study).startswith("<Study 'tiny': 4 evaluated candidates, ")
    shown = study._repr_html_()
    assert shown.count("<tr>") == 1 + len(front) and f"{best.accuracy:.2%}" in shown


def test_a_network_of_python_is_compressed(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {}
    exec(NETWORK, namespace)
    torch.manual_seed(0)
    network = namespace["small"]().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    goals = {"min_size_reduction": 50.0, "max_drop": 100.0}
    options: dict[str, Any] = {**QUICK, **goals, "out": tmp_path, "train": TRAIN, "trials": 3}
    name = live_name(network)
    with live_models({name: network}):
        keep_profile(compress_config(name, {**options, "out": str(tmp_path)}), tiny)
    found = nas_edge.compress(network, **options)
    assert found.met and found.best.size_bytes <= 0.5 * found.baseline.size_bytes
    assert found.study.config.model == name and found.files[0].name == "model.onnx"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with pytest.raises(UserError, match="was given from Python as an object, which this process does not have"):
        nas_edge.search(**{**found.study.config.model_dump(), "trials": 9, "goals": Goals(max_latency_ms=1e-9)})
    with pytest.raises(
        UserError, match="teacher, given as an object, is in this process alone; search with one worker"
    ):
        nas_edge.search(**tiny_values(tmp_path / "other"), teacher=network, workers=2)


def test_progress_is_shown_in_a_notebook() -> None:
    """By a real kernel: the live view is a widget that is gone at the end, and what is said stays."""
    cell = """
from nas_edge.cli.output import console
from nas_edge.cli.progress import LiveProgress, live_progress
assert console.is_jupyter
with live_progress() as progress:
    assert isinstance(progress, LiveProgress)
    progress.phase("Searching")
    progress._live.refresh()
    assert progress._live.ipy_widget.comm is not None
    progress.say("half of it")
"""
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": "a", "metadata": {}, "source": cell, "execution_count": None, "outputs": []}
    ]
    notebook = nbformat.reads(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), 4)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    (code,) = notebook.cells
    assert "half of it" in str(code.outputs) and "Searching" not in str(code.outputs)


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "surrogate", "evolution", "reinforce"])
def test_a_sampler_works_in_a_plain_optuna_study(name: str) -> None:
    """On two bowls whose Pareto set is the line between their centres, (0, 0) and (1, 1)."""

    def bowls(trial: optuna.Trial) -> tuple[float, float]:
        x, y = trial.suggest_float("x", -2, 2), trial.suggest_float("y", -2, 2)
        return x**2 + y**2, (x - 1) ** 2 + (y - 1) ** 2

    runs = []
    for _ in range(2):
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=nas_edge.sampler(name, seed=3))
        study.optimize(bowls, n_trials=BOWL)
        runs.append([t.params for t in study.get_trials(states=(TrialState.COMPLETE,))])
    assert runs[0] == runs[1] and len(runs[0]) == BOWL
    assert nas_edge.sampler(name) is not nas_edge.sampler(name)


def test_samplers_that_do_not_exist_or_do_not_work(tiny: Registry) -> None:
    with pytest.raises(UserError, match="unknown sampler 'nsga'; did you mean 'nsga2'"):
        nas_edge.sampler("nsga")
    tiny.samplers["broken"] = lambda seed: seed  # type: ignore[assignment,return-value]
    with pytest.raises(PluginError, match="sampler 'broken' made int, not an Optuna BaseSampler"):
        nas_edge.sampler("broken")
