"""The code in the documentation: Python is run, commands are held against the command line, files are read.

Budgets are cut where a search would take minutes: the words stay, the networks are tiny.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import nn

import nas_edge
from nas_edge.cli import main
from nas_edge.cli.app import command_line
from nas_edge.config import make_config
from nas_edge.engine.session import Session
from nas_edge.export import describe, export_onnx
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.profile import Profile
from nas_edge.plugins import Registry

from ..report.made import made_study
from ..studies import TRAIN
from .pages import LANGUAGES, PAGES, ROOT, Block, blocks, commands

EVERY = [block for page in PAGES for block in blocks(page)]
SHELL = [block for page in PAGES for block in blocks(page, "sh", "console")]
PYTHON_ELSEWHERE = {  # their Python is run by tests of their own
    "hooks.md": "test_hooks_page.py",
    "mini.md": "test_mini.py",
    "own_space.md": "test_own_plugins.py",
    "own_technique.md": "test_own_plugins.py",
    "plugins.md": "test_plugins_page.py",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_blocks_are_of_languages_that_are_looked_at_and_say_why_they_are_not_run() -> None:
    assert len(EVERY) > 80
    assert [str(block) for block in EVERY if block.language not in LANGUAGES] == []
    marks = [mark for path in PAGES.values() for mark in re.findall(r"<!-- not run.*", path.read_text())]
    assert len(marks) == sum(block.not_run is not None for block in EVERY)
    for name in PYTHON_ELSEWHERE.values():
        assert (Path(__file__).parent / name).is_file()


# --- commands


def parse(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The command that is named, and its parameters. Raises what the command line itself would."""
    command: Any = command_line(arguments)
    name, context, rest = "nas-edge", None, arguments
    while True:
        context = command.make_context(name, list(rest), parent=context)
        rest = [*context._protected_args, *context.args]
        if not (hasattr(command, "resolve_command") and rest):
            return name, context.params
        name, command, rest = command.resolve_command(context, rest)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_are_those_of_the_command_line(block: Block) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(block):
        match words:
            case ["nas-edge", *arguments]:
                parse(arguments)
            case ["make", target, *_]:
                assert target in targets
            case ["pip", "install", *what]:
                extras = set(",".join(re.findall(r"(?:nas-edge|\.)\[([^\]]+)\]", " ".join(what))).split(",")) - {""}
                assert extras <= PROJECT["optional-dependencies"].keys()
            case ["python", "-c", code]:
                compile(code, str(block), "exec")
            case ["python", script, *_] if script.startswith("benchmarks/"):
                assert (ROOT / script).is_file()


def test_kubernetes_is_told_a_command_of_the_command_line() -> None:
    (block,) = blocks("long_searches.md", "yaml")
    (container,) = yaml.safe_load(block.code)["spec"]["template"]["spec"]["containers"]
    name, *arguments = container["command"]
    assert name == "nas-edge" and parse(arguments)[0] == "worker"


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


QUICK = ("plugins", "spaces", "targets", "new-plugin", "show", "report")


def runnable(block: Block) -> list[list[str]]:
    """The commands of a block that take no second; of those that read a study, one of a folder."""
    found = []
    for words in commands(block):
        if words[:1] != ["nas-edge"] or words[1:2] == [] or words[1] not in QUICK or block.not_run:
            continue
        named = [word for word in words[2:] if not word.startswith("-")]
        listing = words[1] in ("plugins", "spaces", "targets") and not named
        if listing or words[1] == "new-plugin" or (named and named[0].startswith("runs/")):
            found.append(words[1:])
    return found


def test_quick_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: set[str] = set()
    for block in SHELL:
        for arguments in runnable(block):
            line = shlex.join(arguments)
            if line in seen or (arguments[0] == "report" and block.page != "report.md"):
                continue
            seen.add(line)
            for folder in (Path(word) for word in arguments if word.startswith("runs/")):
                if not folder.exists():
                    made_study(folder, 20, study=folder.name)
            if arguments[0] == "new-plugin" and Path(f"nas-edge-{arguments[1].replace('_', '-')}").exists():
                continue
            assert main(arguments) == 0, f"{block}: nas-edge {line}: {capsys.readouterr().err}"
    assert {line.split()[0] for line in seen} == {"plugins", "new-plugin", "show", "report"}


def test_files_that_the_shell_writes_are_python(tmp_path: Path) -> None:
    written = {}
    for block in SHELL:
        for name, end, text in re.findall(r"^cat > (\S+\.py) <<'(\w+)'\n(.*?)^\2$", block.code, re.M | re.S):
            written[name] = text
            assert end
            compile(text, f"{block}: {name}", "exec")
    assert written.keys() == {"nets.py", "photos.py"}
    names: dict[str, Any] = {}
    exec(written["nets.py"], names)
    assert names["small"]()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


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
def small(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which the API searches a tiny space, for a device that nobody needs to measure."""
    monkeypatch.chdir(tmp_path)
    both = {"target": "bench", "trials": 2, "train": dict(TRAIN), "train_images": 128, "sampler": "random"}
    widths = {"tiny.width": 4, "tiny.features": [8, 10, 12]}
    search = smaller(nas_edge.search, **both, space="tiny", techniques=[], set=widths)
    monkeypatch.setattr(nas_edge, "search", search, raising=False)
    compress = smaller(nas_edge.compress, **both, techniques=["prune", "quantize"])
    monkeypatch.setattr(nas_edge, "compress", compress, raising=False)
    real = nas_edge.calibrate
    quick = {"target": "bench", "space": "tiny", "calibration_seconds": 5.0}
    monkeypatch.setattr(nas_edge, "calibrate", lambda **options: real(**{**options, **quick}), raising=False)

    def profile(session: Session, budget_s: float, progress: object) -> Profile:
        error = HeldOutError(0.01, 0.02, 1.0, 1.0, 8)
        fingerprint = session.target.fingerprint()
        return Profile(session.target.name, fingerprint, LatencyModel(0.1, {}), error, 0.01, 10.0, 0.1, session.domain)

    monkeypatch.setattr(Session, "calibrate", profile)  # the tiny plugin predicts: its values do not count
    yield tmp_path


def model_file(folder: Path, channels: int, side: int) -> None:
    """A model as `export` writes it."""
    model = export_onnx(network(channels), channels=channels, resolution=side)
    (folder / "out").mkdir(exist_ok=True)
    onnx.save(describe(model, {"classes": json.dumps([f"digit{n}" for n in range(10)])}), folder / "out/model.onnx")


def photos(folder: Path) -> None:
    (block,) = [block for block in blocks("tutorial.md", "sh") if "photos.py" in block.code]
    (code,) = re.findall(r"<<'END'\n(.*?)^END$", block.code, re.M | re.S)
    exec(code, {})
    assert len(list((folder / "photos").glob("digit*/*.png"))) == 1797


def prepare(page: str, folder: Path) -> None:
    """What a page's Python finds when the commands before it were run."""
    if page == "README.md":
        model_file(folder, 3, 96)
    if page == "tutorial.md":
        model_file(folder, 1, 8)
        photos(folder)


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
