"""The code in the documentation: Python is run, files are read. The shell's commands are in test_shell.py.

Budgets are cut where a search would take minutes: the words stay, the networks are tiny.
"""

from __future__ import annotations

import functools
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import nas_edge
from nas_edge.config import make_config
from nas_edge.export import describe, export_onnx

from ..studies import TRAIN
from .pages import LANGUAGES, PAGES, Block, blocks, make_photos

EVERY = [block for page in PAGES for block in blocks(page)]
PYTHON_ELSEWHERE = {  # their Python is run by tests of their own
    "hooks.md": "test_hooks_page.py",
    "mini.md": "test_mini.py",
    "own_space.md": "test_own_plugins.py",
    "own_technique.md": "test_own_plugins.py",
    "plugins.md": "test_plugins_page.py",
}


def test_blocks_are_of_languages_that_are_looked_at_and_say_why_they_are_not_run() -> None:
    assert len(EVERY) > 80
    assert [str(block) for block in EVERY if block.language not in LANGUAGES] == []
    marks = [mark for path in PAGES.values() for mark in re.findall(r"<!-- not run.*", path.read_text())]
    assert len(marks) == sum(block.not_run is not None for block in EVERY)
    for name in PYTHON_ELSEWHERE.values():
        assert (Path(__file__).parent / name).is_file()


# --- files


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page, "toml")], ids=str)
def test_files_are_read(block: Block, tmp_path: Path) -> None:
    if "project" in block.code:
        assert "nas_edge" in tomllib.loads(block.code)["project"]["entry-points"]
        return
    file = tmp_path / "study.toml"
    file.write_text(block.code)
    make_config(file, {})


# --- Python


class Pictures(torch.utils.data.Dataset[Any]):
    """scikit-learn's digits, as anybody's data set."""

    def __init__(self, start: int = 0, step: int = 4) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.images = (digits.images[start::step, None] / 16).astype(np.float32)
        self.labels = digits.target[start::step]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.images[index], int(self.labels[index])


def network(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv2d(channels, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).eval()


def smaller(verb: Callable[..., Any], **small: Any) -> Callable[..., Any]:
    """A verb of the API with budgets cut, and a study of its own for data that is given as an object."""
    count = iter(range(100))

    @functools.wraps(verb)
    def called(*given: Any, **options: Any) -> Any:
        if not isinstance(options.get("data", ""), str):
            options.setdefault("study", f"{verb.__name__}{next(count)}")
        if "trials" in options:
            options["trials"] = min(options["trials"], 3)
        return verb(*given, **{**small, **options})

    return called


@pytest.fixture
def small(quick: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the API searches a tiny space, for a device that nobody needs to measure."""
    both = {"target": "bench", "trials": 2, "train": dict(TRAIN), "train_images": 128, "sampler": "random"}
    widths = {"tiny.width": 4, "tiny.features": [8, 10, 12]}
    search = smaller(nas_edge.search, **both, space="tiny", techniques=[], set=widths)
    monkeypatch.setattr(nas_edge, "search", search, raising=False)
    compress = smaller(nas_edge.compress, **both, techniques=["prune", "quantize"])
    monkeypatch.setattr(nas_edge, "compress", compress, raising=False)
    real = nas_edge.calibrate
    fast = {"target": "bench", "space": "tiny", "calibration_seconds": 5.0}
    monkeypatch.setattr(nas_edge, "calibrate", lambda **options: real(**{**options, **fast}), raising=False)
    return quick


def model_file(folder: Path, channels: int, side: int) -> None:
    """A model as `export` writes it."""
    model = export_onnx(network(channels), channels=channels, resolution=side)
    (folder / "out").mkdir(exist_ok=True)
    onnx.save(describe(model, {"classes": json.dumps([f"digit{n}" for n in range(10)])}), folder / "out/model.onnx")


def prepare(page: str, folder: Path) -> None:
    """What a page's Python finds when the commands before it were run."""
    if page == "README.md":
        model_file(folder, 3, 96)
    if page == "tutorial.md":
        model_file(folder, 1, 8)
        make_photos(folder)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python") and p not in PYTHON_ELSEWHERE])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_python_runs(page: str, small: Path) -> None:
    """All blocks of a page in their order, in one namespace and one folder."""
    images = torch.from_numpy(Pictures().images)
    labels = torch.from_numpy(Pictures().labels)
    names: dict[str, Any] = {
        "my_dataset": Pictures(),
        "train_set": Pictures(1),
        "test_set": Pictures(2),
        "network": network(),
        "my_network": network(),
        "images": images,
        "labels": labels,
    }
    prepare(page, small)
    for block in blocks(page, "python"):
        assert block.not_run is None, f"{block}: mark what cannot be run, or run it"
        exec(compile("\n" * block.line + block.code, str(PAGES[page]), "exec", dont_inherit=True), names)
