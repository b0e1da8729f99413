"""A plugin package to begin with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nas_edge.cli import main
from nas_edge.cli.new_plugin import Kind

WRITTEN = (
    "README.md",
    "nas_edge_halves_twice.py",
    "pyproject.toml",
    "tests/test_halves_twice.py",
    "tests/test_plugin.py",
)


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


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["Halves", "--kind", "space"], "'Halves' is no name for a plugin; give small letters"),
        (["class", "--kind", "space"], "'class' is no name for a plugin"),
        (["../up", "--kind", "space"], "'../up' is no name for a plugin"),
        (["prune", "--kind", "technique"], "there is a technique 'prune' already, of nas-edge; choose another name"),
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
