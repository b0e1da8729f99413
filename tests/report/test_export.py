"""`nas-edge export`: three files, of which each stands for itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from nas_edge import CandidateSpec, Measurement
from nas_edge.cli import main
from nas_edge.config import TrainConfig
from nas_edge.data import load_data
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import parse_recipe
from nas_edge.engine.workers import available_cores
from nas_edge.pipeline import produce
from nas_edge.plugins import Registry
from nas_edge.report.card import card
from nas_edge.store.study import StoredStudy

from ..fuzz.cases import RECORD
from ..studies import opened, search, sha256, tiny_config

LONGER = {"samples": 600, "final_budget": 8.0, "teacher_budget": 2.0}
REPRODUCE = """
import sys
import numpy as np
import onnxruntime as ort

images, labels = (np.load(f"{sys.argv[2]}/{name}.npy") for name in ("images", "labels"))
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
logits = session.run(None, {"input": images.astype(np.float32) / 255})[0]
assert not any(name in sys.modules for name in ("torch", "nas_edge", "onnx"))
print(f"{(logits.argmax(1) == labels).mean():.4f}")
"""


@pytest.fixture(scope="module")
def made() -> list[StoredStudy]:
    return []


@pytest.fixture
def stored(made: list[StoredStudy], tiny: Registry, tmp_path_factory: pytest.TempPathFactory) -> StoredStudy:
    if not made:
        folder = tmp_path_factory.mktemp("study")
        config = tiny_config(folder, trials=5, techniques=["distill", "quantize"], train=LONGER, seed=1)
        made.append(search(config, tiny))
    return made[0]


def exported(stored: StoredStudy, number: int, folder: Path) -> Path:
    assert main(["export", str(stored.folder), str(number), "-o", str(folder)]) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["card.md", "model.onnx", "recipe.json"]
    return folder


def numbers(stored: StoredStudy) -> dict[str, int]:
    """A trial that was trained for longer, and one that the search did not even test."""
    front = [t.number for t in stored.front()]
    return {"best": front[0], "other": next(n for n in range(5) if n not in front)}


@pytest.mark.parametrize("which", ["best", "other"])
def test_the_accuracy_on_the_card_is_reproduced_without_us(
    which: str, stored: StoredStudy, tiny: Registry, tmp_path: Path
) -> None:
    folder = exported(stored, numbers(stored)[which], tmp_path / "out")
    data = load_data(tiny.datasets, "digits", seed=1, train_images=128)
    np.save(tmp_path / "images.npy", data.test.images.numpy())
    np.save(tmp_path / "labels.npy", data.test.labels.numpy())
    command = (sys.executable, "-I", "-c", REPRODUCE, str(folder / "model.onnx"), str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (stated,) = re.findall(
        r"\| Accuracy on the test split \| ([0-9.]+) \((\d+) images", (folder / "card.md").read_text()
    )
    assert (done.stdout.strip(), str(len(data.test))) == stated


@pytest.fixture
def all_cores() -> Iterator[None]:
    """As a search trains: another number of threads sums in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(available_cores())
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("which", ["best", "other"])
def test_the_recipe_rebuilds_the_file(
    which: str, stored: StoredStudy, tiny: Registry, tmp_path: Path, all_cores: None
) -> None:
    folder = exported(stored, numbers(stored)[which], tmp_path / "out")
    recipe = json.loads((folder / "recipe.json").read_text())
    assert sha256(folder / "model.onnx") == recipe["evaluation"]["onnx_sha256"]
    config = tiny_config(tmp_path / "again", seed=recipe["study"]["config"]["seed"], techniques=["distill", "quantize"])
    config = config.model_copy(update={"train": TrainConfig(**recipe["study"]["config"]["train"])})
    session, again = opened(config, tiny)
    session.ensure_teacher(again, Progress())
    longer = recipe["study"]["trained_longer"]
    assert longer is (which == "best")
    with session.context(config.train.final_budget if longer else 1.0) as context:
        spec = CandidateSpec.from_json(recipe["spec"])
        undone = {step.technique for step in spec.steps} - set(recipe["evaluation"]["techniques"])
        produce(tiny, spec, context, config.train, undone=undone)
        assert sha256(context.work_dir / "model.onnx") == recipe["evaluation"]["onnx_sha256"]


def test_the_card_and_the_file_say_the_same(stored: StoredStudy, tmp_path: Path) -> None:
    number = numbers(stored)["best"]
    folder = exported(stored, number, tmp_path / "out")
    card, recipe = (folder / "card.md").read_text(), json.loads((folder / "recipe.json").read_text())
    size = (folder / "model.onnx").stat().st_size
    assert card.startswith(f"# tiny, trial {number}\n")
    assert f"| Size of the file | {size:,} bytes |" in card
    assert f"| Latency, measured | {1e-5 * size:.3g} ms median" in card
    assert "- cpu: bench" in card and "- target: bench" in card
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in card
    graph = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    properties = {p.key: p.value for p in graph.metadata_props}
    assert properties["preprocessing"] in card
    assert properties["candidate"] == CandidateSpec.from_json(recipe["spec"]).key
    assert {"torch", "onnx", "onnxruntime", "optuna", "nas-edge"} <= set(recipe["versions"])
    assert recipe["study"]["plugins"]["search space tiny"] == 1


def test_names_from_outside_are_nothing_but_text_on_the_card() -> None:
    spec, evaluation = parse_recipe(RECORD)
    data = {"channels": 1, "resolution": 8, "preprocessing": "none"}
    final = {"test_accuracy": 0.5, "test_images": 9, "predicted_ms": None}
    study = {"name": "x", "trial": 1, "max_latency_ms": None}
    doubt = Measurement(1.0, 1.1, 0.9, 1.1, 10, "a|b", {"cpu": "<img src=x>"}, unstable_because="load | <b>heat</b>")
    study["data"] = {**data, "classes": ["<script>alert(1)</script>", "cats\n# dogs", "a & b"]}
    told = card(spec, evaluation, final=final, study=study, measurement=doubt)
    assert not re.search(r"<\w", told) and "\n# dogs" not in told
    assert "  &lt;script&gt;alert(1)&lt;/script&gt;, cats # dogs, a &amp; b" in told
    assert "may be unstable: load \\| &lt;b&gt;heat&lt;/b&gt; |" in told


def test_the_card_tells_of_the_error_of_predictions(stored: StoredStudy, tmp_path: Path) -> None:
    folder = exported(stored, numbers(stored)["best"], tmp_path / "out")
    audited = 5 - len(stored.front())  # on the bench predictions are exact
    (told,) = re.findall(r"\| Error of the predictions in this search \| (.*) \|", (folder / "card.md").read_text())
    assert told.startswith(f"0.0% median, 0.0% at 90 % of {audited} random trials (stated: 1.0%, 2.0%)")


def test_the_script_on_the_card_runs(stored: StoredStudy, tmp_path: Path) -> None:
    folder = exported(stored, numbers(stored)["best"], tmp_path / "out")
    (script,) = re.findall(r"```python\n(.*?)```", (folder / "card.md").read_text(), re.S)
    done = subprocess.run((sys.executable, "-I", "-c", script), capture_output=True, text=True, cwd=folder, check=True)
    assert re.fullmatch(r"\[\d\]\n", done.stdout)


def test_an_export_replaces_an_older_one_and_survives_a_lost_file(stored: StoredStudy, tmp_path: Path) -> None:
    number = numbers(stored)["best"]
    folder = exported(stored, numbers(stored)["other"], tmp_path / "out")
    exported(stored, number, folder)
    final = stored.tables.finals("tiny")[number]
    assert sha256(folder / "model.onnx") == final["onnx_sha256"]
    (stored.folder / "models" / f"trial-{number:04d}.onnx").write_bytes(b"damaged")
    exported(stored, number, folder)
    assert sha256(folder / "model.onnx") == final["onnx_sha256"]
