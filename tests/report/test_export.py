"""`nas-edge export`: three files, of which each stands for itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_edge import CandidateSpec, Measurement, UserError
from nas_edge.cli import main
from nas_edge.config import TrainConfig
from nas_edge.data import load_data
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import parse_recipe
from nas_edge.engine.workers import available_cores
from nas_edge.pipeline import produce
from nas_edge.plugins import Registry
from nas_edge.report.card import Facts, card, wilson
from nas_edge.report.front import front_rows
from nas_edge.report.front_matter import scalar
from nas_edge.report.markdown_text import plain
from nas_edge.report.study import Study
from nas_edge.store.study import StoredStudy

from ..fuzz.cases import RECORD
from ..studies import opened, search, sha256, tiny_config
from .made import empty_study

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
    assert sorted(p.name for p in folder.iterdir()) == ["card.md", "model.onnx", "recipe.json", "run.py"]
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
    assert f"\n---\n\n# tiny, trial {number}\n" in card
    assert f"| Size of the file | {size:,} bytes |" in card
    assert f"| Latency, measured | {1e-5 * size:.3g} ms median" in card
    assert "- CPU: bench" in card and "- target: bench" in card
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in card
    graph = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    properties = {p.key: p.value for p in graph.metadata_props}
    assert plain(properties["preprocessing"]) in card
    assert properties["candidate"] == CandidateSpec.from_json(recipe["spec"]).key
    assert {"torch", "onnx", "onnxruntime", "optuna", "nas-edge"} <= set(recipe["versions"])
    assert recipe["study"]["plugins"]["search space tiny"] == 1


def facts(**changes: Any) -> Facts:
    """Those of a hand-made model, with hostile names where they come from outside."""
    spec, evaluation = parse_recipe(RECORD)
    data = {
        "name": "pets: |\n  #x",
        "fingerprint": "f",
        "channels": 1,
        "resolution": 8,
        "preprocessing": "none",
        "images": [7, 8, 9],
        "classes": ["<script>alert(1)</script>", "cats\n# dogs", "a & b", "[x](javascript:y)"],
    }
    study = {"name": "x", "trial": 1, "max_latency_ms": None, "trained_longer": False, "config": {}, "data": data}
    final = {"test_accuracy": 0.5, "test_images": 9, "predicted_ms": None}
    device = {"cpu": '<img src=x> "\\ \x7f\u2028 \U0001f600: - # | ---', "architecture": "x"}
    doubt = Measurement(1e-5, 1.1, 0.9, 1.1, 10, "a|b", device, unstable_because="load | <b>heat</b>")
    return replace(Facts(spec, evaluation, final, study, doubt), **changes)


def test_names_from_outside_are_nothing_but_text_on_the_card() -> None:
    told = card(facts()).split("\n---\n", 1)[1]
    assert not re.search(r"<\w", told) and "\n# dogs" not in told
    assert "&lt;script&gt;alert(1)&lt;/script&gt;, cats # dogs, a &amp; b, \\[x\\](javascript:y)" in told
    assert "may be unstable: load \\| &lt;b&gt;heat&lt;/b&gt; |" in told


def front_matter(text: str) -> dict[str, Any]:
    """As Hugging Face reads it: from the first to the second line of three hyphens."""
    (head,) = re.findall(r"\A---\n(.*?)\n---\n", text, re.S)
    value = yaml.safe_load(head)
    assert isinstance(value, dict)
    return value


def test_the_head_of_the_card_is_yaml_with_what_was_measured() -> None:
    known = facts()
    assert known.measurement is not None
    head = front_matter(card(known))
    assert head["license"] == "unknown" and "license: unknown  # to be filled in" in card(known)
    assert (head["library_name"], head["pipeline_tag"]) == ("onnx", "image-classification")
    assert {"onnx", "nas-edge", "image-classification"} <= set(head["tags"]) and head["metrics"] == ["accuracy"]
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert model["name"] == "x, trial 1" and result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"type": "pets: |\n  #x", "name": "pets: |\n  #x", "split": "test"}
    accuracy, latency, size = result["metrics"]
    assert (accuracy["type"], accuracy["value"]) == ("accuracy", 0.5)
    assert latency["value"] == 1e-5 and latency["name"].endswith(str(known.measurement.fingerprint["cpu"]))
    assert size["value"] == known.evaluation.size_bytes
    unmeasured = front_matter(card(replace(known, measurement=None)))["model-index"][0]["results"][0]["metrics"]
    assert [metric["type"] for metric in unmeasured] == ["accuracy", "size_bytes"]


@given(
    st.one_of(st.text(st.characters(codec="utf-8")), st.floats(allow_nan=False, allow_infinity=False), st.integers())
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_scalar_is_read_back(value: str | float) -> None:
    found = yaml.safe_load(f"a: {scalar(value)}\nb: [{scalar(value)}]")
    if isinstance(value, float):
        assert found["a"] == pytest.approx(value, rel=1e-5, abs=1e-12) and isinstance(found["a"], float)
    else:
        assert found == {"a": value, "b": [value]}


def test_the_interval_of_the_accuracy() -> None:
    """Wilson (1927), by the closed form at the ends: 0 of n reaches up to z^2 / (n + z^2)."""
    assert [*wilson(0.0, 100)] == pytest.approx([0.0, 1.959964**2 / (100 + 1.959964**2)])
    assert [*wilson(0.9, 1000)] == pytest.approx([0.8798, 0.9171], abs=1e-4)


def test_the_card_tells_of_the_other_format() -> None:
    assert "model.ort" not in card(facts())
    size = facts().evaluation.size_bytes
    assert f"`model.ort` ({size:,} bytes)" in card(facts(ort_bytes=size)) and "larger" not in card(
        facts(ort_bytes=size)
    )
    assert "It is larger" in card(facts(ort_bytes=2 * size))


def test_the_card_tells_where_the_file_may_saturate() -> None:
    assert "without VNNI" not in card(facts())
    assert "On an x86 CPU without VNNI" in card(facts(exact_int8=True))


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


def test_the_whole_front_with_an_index(stored: StoredStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", str(stored.folder), "--all-front", "--ort", "-o", str(out), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert sorted(files) == sorted(str(path) for path in out.rglob("*") if path.is_file())
    index = json.loads((out / "index.json").read_text())
    front = front_rows(stored)
    assert index["study"] == "tiny" and [row["number"] for row in index["front"]] == [row.number for row in front]
    told = (out / "index.md").read_text()
    for row, member in zip(index["front"], front, strict=True):
        final = stored.tables.finals("tiny")[member.number]
        assert sha256(out / row["model"]) == final["onnx_sha256"]
        assert (row["accuracy"], row["size_bytes"]) == (member.accuracy, (out / row["model"]).stat().st_size)
        folder = (out / row["model"]).parent
        assert sorted(path.name for path in folder.iterdir()) == [
            "card.md",
            "model.onnx",
            "model.ort",
            "model.required_operators.config",
            "recipe.json",
            "run.py",
        ]
        assert f"\n# tiny, trial {member.number}\n" in (folder / "card.md").read_text()
        assert f"[{folder.name}]({folder.name}/card.md)" in told
    assert len([line for line in told.splitlines() if line.startswith("| ")]) == 2 + len(front)
    paths = Study(stored).export(None, tmp_path / "again")
    assert {str(path.relative_to(tmp_path / "again")) for path in paths} < {
        str(Path(path).relative_to(out)) for path in files
    }


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ([], "which trial? `nas-edge show {study}` lists them; --all-front takes each member of the front"),
        (["2", "--all-front"], "trial 2 and --all-front are both given; leave one out"),
    ],
)
def test_what_to_export_is_said_once(
    flags: list[str], reason: str, stored: StoredStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(stored.folder), *flags, "-o", str(tmp_path / "out")]) == 2
    assert reason.format(study=stored.folder) in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_empty_front_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="study 'made' has no finished trial that meets its limits yet; search on"):
        Study(empty_study(tmp_path / "made")).export(None, tmp_path / "out")
    assert not (tmp_path / "out").exists()
