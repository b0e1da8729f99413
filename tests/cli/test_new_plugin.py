"""A plugin package to begin with."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
import pytest

from nas_edge import hookspecs
from nas_edge.cli import main
from nas_edge.cli.new_plugin import Kind

WRITTEN = (
    "README.md",
    "nas_edge_halves_twice.py",
    "pyproject.toml",
    "tests/test_halves_twice.py",
    "tests/test_nas_edge_halves_twice.py",
)
# Words of the templates, names of what they import, a keyword once it is a class, and what pytest looks for.
AWKWARD = ["example", "my_example", "technique", "config", "context", "measurement", "any", "kind", "u_s_e", "true"]
AWKWARD += ["plugin", "test_time", "nas_edge"]


@pytest.mark.parametrize(
    "kinds",
    [(Kind.SPACE, Kind.TARGET, Kind.SAMPLER), pytest.param((Kind.TECHNIQUE,), marks=pytest.mark.long)],
    ids=["quick", "technique"],
)
def test_each_kind_passes_the_kit_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[Kind, ...]
) -> None:
    """Its own tests are the kit. In an environment of its own, and with a search: .ci/run."""
    monkeypatch.chdir(tmp_path)
    for kind in kinds:
        assert main(["new-plugin", f"my_{kind}", "--kind", kind]) == 0
    path = os.pathsep.join([*(f"{tmp_path}/nas-edge-my-{kind}" for kind in kinds), *sys.path])
    pytest_here = (sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider")
    done = subprocess.run([*pytest_here, str(tmp_path)], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
    assert int(re.findall(rb"(\d+) passed", done.stdout)[0]) >= 10 * len(kinds)


def test_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "nas-edge-halves-twice"
    assert main(["new-plugin", "halves_twice", "--kind", "technique", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()) == [*WRITTEN]
    assert sorted(said["files"]) == sorted(f"{made.name}/{name}" for name in WRITTEN)
    project = tomllib.loads((made / "pyproject.toml").read_text())["project"]
    assert project["name"] == "nas-edge-halves-twice" and project["description"] == "A technique for nas-edge"
    assert project["entry-points"]["nas_edge"] == {"halves_twice": "nas_edge_halves_twice"}
    written = {path.name: path.read_text() for path in made.rglob("*.*") if path.is_file()}
    assert "class HalvesTwice(Technique):" in written["nas_edge_halves_twice.py"]
    assert not [name for name, text in written.items() if "xample" in text or "KIND" in text or "USE" in text]
    assert said["next"][-1] == "nas-edge search --techniques halves_twice --trials 8 --study halves_twice"
    assert said["next"][-1] in written["README.md"]


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)  # dataclasses look for it there
    spec.loader.exec_module(module)
    del sys.modules[path.stem]
    return module


def imports(path: Path) -> list[tuple[str, str]]:
    """What a file imports by name at its top: module and name."""
    nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    return [(str(node.module), alias.name) for node in nodes for alias in node.names if node.module != "__future__"]


def registered(module: ModuleType) -> list[tuple[str, type]]:
    """The name and the class of each thing that a plugin registers."""
    found: list[tuple[str, type]] = []

    def register(*what: Any) -> None:
        found.append((what[0], what[1]) if len(what) == 2 else (what[0].name, type(what[0])))

    hooks = pluggy.PluginManager("nas_edge")
    hooks.add_hookspecs(hookspecs)
    hooks.register(module)
    for caller in hooks.get_hookcallers(module) or []:
        caller(register=register)
    return found


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_stay_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every kind, the name is registered as it was given, and hides nothing that the code uses."""
    monkeypatch.chdir(tmp_path)
    for kind in Kind:
        assert main(["new-plugin", name, "--kind", kind, "-o", kind]) == 0
        folder, distribution = tmp_path / kind, f"nas-edge-{name.replace('_', '-')}"
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) == 5
        for path in files:
            text = path.read_text()
            if path.suffix == ".py":
                compile(text, path, "exec")
            if "example" not in name:
                assert not re.search("example", text, re.IGNORECASE), path
        module = imported(folder / f"nas_edge_{name}.py")
        ((found, made),) = registered(module)
        assert found == name and made.__module__ == module.__name__ and not made.__name__.startswith("Test")
        for place, what in imports(folder / f"nas_edge_{name}.py"):
            assert getattr(module, what) is getattr(importlib.import_module(place), what), (kind, what)
        wanted = [what for place, what in imports(folder / f"tests/test_{name}.py") if place == module.__name__]
        assert wanted[0] == made.__name__ and all(hasattr(module, what) for what in wanted)
        project = tomllib.loads((folder / "pyproject.toml").read_text())
        assert project["project"]["name"] == distribution
        assert project["project"]["entry-points"]["nas_edge"] == {name: module.__name__}
        assert project["tool"]["setuptools"]["py-modules"] == [module.__name__]
        assert (folder / "README.md").read_text().startswith(f"# {distribution}\n")


def test_a_target_is_known_by_its_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that one machine made must not serve another: on a server and on a Raspberry Pi."""
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", "board", "--kind", "target"]) == 0
    module: Any = imported(tmp_path / "nas-edge-board/nas_edge_board.py")
    cpus = []
    for number, lines in enumerate(
        (
            "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 9R14\n\n" * 2,
            "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
        )
    ):
        module.CPUINFO = tmp_path / f"cpuinfo{number}"
        module.CPUINFO.write_text(lines)
        cpus.append(module.Board("board").fingerprint()["cpu"])
    assert cpus == ["AMD EPYC 9R14", "0x41, 0xd08, Raspberry Pi 4 Model B Rev 1.4"]
    module.CPUINFO = tmp_path / "none"
    assert module.Board("board").fingerprint()["cpu"]


def test_what_is_next_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", "mine", "--kind", "space", "-o", "it's mine", "--json"]) == 0
    words = [shlex.split(step) for step in json.loads(capsys.readouterr().out)["next"]]
    assert words[0] == ["pip", "install", "-e", "it's mine[test]"] and words[2] == ["pytest", "it's mine"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["Halves", "--kind", "space"], "'Halves' is no name for a plugin; give small letters"),
        (["class", "--kind", "space"], "'class' is no name for a plugin"),
        (["../up", "--kind", "space"], "'../up' is no name for a plugin"),
        (["prune", "--kind", "technique"], "there is a technique 'prune' already, of nas-edge; choose another name"),
        (["data", "--kind", "space"], "there is a plugin 'data' already, of nas-edge; choose another name"),
        (["plugins", "--kind", "space"], "'plugins' means something else to nas-edge; choose another name"),
        (["none", "--kind", "technique"], "'none' means something else to nas-edge"),
        (["halves", "--kind", "nothing"], "'nothing' is not one of 'technique', 'space', 'target', 'sampler'"),
        (
            ["halves", "--kind", "space", "-o", "full"],
            "full is there already; remove it, or give another folder with --out",
        ),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(["new-plugin", *arguments]) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_it_is_quick() -> None:
    """It writes files: torch has no part in that."""
    code = (
        "import sys; from nas_edge.cli import main; main(['new-plugin', '--help']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
