"""The script that an export holds: run as a process, it says of an image what the engine's own evaluation does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas_edge import ImageData, classify
from nas_edge.data import load_data
from nas_edge.data.batches import evaluation_batches
from nas_edge.engine.progress import Progress
from nas_edge.export import logits, session
from nas_edge.plugins import Registry
from nas_edge.report.export import export_trial

from .data.image_folders import make_classes
from .studies import search, tiny_config


def ran(folder: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """In another folder, without nas_edge on the path."""
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONWARNINGS": "error"}
    command = (sys.executable, "-P", str(folder / "run.py"), *arguments)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder.parent)
    assert done.returncode == status, done.stderr
    return done


def exported(data: str, tiny: Registry, folder: Path) -> tuple[Path, ImageData]:
    config = tiny_config(folder / "study", data=data, trials=1, train_images=None)
    export_trial(search(config, tiny), 0, folder / "out", Progress(), ort=True)
    return folder / "out", load_data(tiny.datasets, data, seed=config.seed)


def expected(folder: Path, data: ImageData) -> torch.Tensor:
    """The probabilities of the test split's images, as the engine's evaluation runs them."""
    runner = session(folder / "model.onnx", threads=1)
    rows = [logits(runner, images.numpy()) for images, _ in evaluation_batches(data.test, 256)]
    return torch.from_numpy(np.concatenate(rows)).softmax(dim=1)


def said(text: str) -> list[tuple[str, list[tuple[str, float]]]]:
    """Of each image its file, and its classes with their probabilities."""
    found: list[tuple[str, list[tuple[str, float]]]] = []
    for line in text.splitlines():
        if row := re.fullmatch(r" +([0-9.]+)%  (.+)", line):
            found[-1][1].append((row[2], float(row[1]) / 100))
        elif not re.fullmatch(r"  [0-9.]+ ms, median of \d+ runs, 1 thread", line):
            found.append((line, []))
    return found


def test_grey_images_in_both_formats(tiny: Registry, tmp_path: Path) -> None:
    folder, data = exported("digits", tiny, tmp_path)
    wanted = expected(folder, data)
    for place in range(5):
        Image.fromarray(data.test.images[place, 0].numpy()).save(tmp_path / f"{place}.png")
    for model in ("model.onnx", "model.ort"):
        done = ran(folder, "--top", "10", "--model", f"out/{model}", *(f"{place}.png" for place in range(5)))
        assert done.stderr == "" and done.stdout.count("median of") == 5
        for place, (name, rows) in enumerate(said(done.stdout)):
            assert name == f"{place}.png" and [p for _, p in rows] == sorted((p for _, p in rows), reverse=True)
            found = [dict(rows)[name] for name in data.classes]
            np.testing.assert_allclose(found, wanted[place].numpy(), atol=2e-6)


def test_colour_images_are_read_as_those_that_were_trained_on(tiny: Registry, tmp_path: Path) -> None:
    """Photos of other sizes: the script brings each to what the engine has of it, pixel by pixel."""
    photos = make_classes(tmp_path / "photos", count=24)
    folder, data = exported(f"folder:{photos}", tiny, tmp_path)
    assert (data.channels, data.resolution) == (3, 10)
    wanted, read = expected(folder, data), {}
    for path in photos.rglob("*.png"):
        pixels = torch.from_numpy(classify.read_image(path, 3, 10).copy())
        place = next((i for i, image in enumerate(data.test.images) if torch.equal(image, pixels)), None)
        if place is not None:
            read[str(path)] = wanted[place]
    assert len(read) == len(data.test)
    done = ran(folder, *read)
    assert done.stderr == ""
    for name, rows in said(done.stdout):
        assert len(rows) == len(data.classes)
        np.testing.assert_allclose([dict(rows)[c] for c in data.classes], read[name].numpy(), atol=2e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hand-made export of a model that adds up its pixels."""
    from nas_edge.export import save_model

    from .latency.networks import Network

    folder = tmp_path_factory.mktemp("made") / "out"
    folder.mkdir()
    net = Network(1, 4)
    flat = net.node("Flatten", ["input"])
    weights = net.constant(np.stack([np.zeros(16), np.ones(16)]).astype(np.float32))
    save_model(net.model(net.node("Gemm", [flat, weights], transB=1), rank=2), folder / "model.onnx")
    shutil.copyfile(classify.__file__, folder / "run.py")
    write_recipe(folder)
    Image.new("L", (4, 4), 51).save(folder.parent / "grey.png")
    return folder


def write_recipe(folder: Path, **changes: Any) -> None:
    data: dict[str, Any] = {"name": "digits", "classes": ["a", "b\x1b[31m"], "channels": 1, "resolution": 4}
    data["preprocessing"] = "As they are."
    (folder / "recipe.json").write_text(json.dumps({"study": {"data": {**data, **changes}}}))


def test_by_hand(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """16 pixels of 0.2 are 3.2; the class's name does not reach the terminal as it is."""
    done = ran(folder, "grey.png")
    share = 1 / (1 + np.exp(-3.2))
    assert done.stdout.splitlines()[:3] == ["grey.png", f"  {share:8.4%}  b\\x1b[31m", f"  {1 - share:8.4%}  a"]


def test_an_image_of_another_size_is_cut_and_noted(folder: Path) -> None:
    Image.new("RGB", (12, 9), (51, 51, 51)).save(folder.parent / "wide.jpg", quality=100)
    done = ran(folder, "wide.jpg")
    assert re.search(r"^  +96\.\d+%  b", done.stdout, re.M)
    assert done.stderr == (
        "note: wide.jpg is 12x9, cut and resized to 4x4; the model knows images made otherwise: As they are.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.png"], "error: missing.png is no image that can be read: [Errno 2] No such file or directory"),
        (["out/run.py"], "error: out/run.py is no image that can be read: cannot identify image file"),
        (["grey.png", "--model", "grey.png"], "refuses grey.png: "),
    ],
)
def test_mistakes(arguments: list[str], reason: str, folder: Path) -> None:
    done = ran(folder, *arguments, status=2)
    assert reason in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"channels": 4}, "the model takes images of 4 channels, which no image file has"), (None, "does not say what")],
)
def test_a_recipe_that_does_not_do(changes: dict[str, Any] | None, reason: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "out")
    if changes is None:
        (tmp_path / "out" / "recipe.json").write_text("{}")
    else:
        write_recipe(tmp_path / "out", **changes)
    done = ran(tmp_path / "out", str(folder.parent / "grey.png"), status=2)
    assert reason in done.stderr and len(done.stderr.splitlines()) == 1
