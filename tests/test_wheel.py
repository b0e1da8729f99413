"""The wheel holds what it should under the names it should, and somebody's plugin installs beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]
TERNARY = ROOT / "tests" / "third_party" / "nas_edge_ternary"


def _run(*command: str, **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _packages() -> set[str]:
    """The name of each folder that holds Python files, as it is imported."""
    found = set()
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            found.add(".".join((package, *path.parent.relative_to(ROOT / folder).parts)))
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built without isolation: from the setuptools that is installed, so that no network is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, so that no build/ folder is left in the checkout
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", *FOLDERS.values()):
        _run("cp", "-r", str(ROOT / name), str(source / name))
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source))
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_no_package_is_forgotten() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == _packages()


def test_every_package_folder_is_a_package() -> None:
    for package in _packages():
        top, *rest = package.split(".")
        assert (ROOT / FOLDERS[top]).joinpath(*rest, "__init__.py").exists()


def test_the_wheel_holds_our_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"nas_edge", "nas_edge_plugins", "nas_edge_spaces"}
    held = {name for name in names if ".dist-info/" not in name}
    expected = {
        str(Path(package) / path.relative_to(ROOT / folder))
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".html", ".css", ".js", ".toml", ".md") or path.name == "py.typed"
    }
    assert held == expected
    assert {f"{package}/py.typed" for package in FOLDERS} <= held


def test_the_wheel_names_command_plugins_and_license(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    points = wheel.read(f"{info}/entry_points.txt").decode()
    assert "nas-edge = nas_edge.__main__:main" in points
    for name, module in PROJECT["project"]["entry-points"]["nas_edge"].items():
        assert f"{name} = {module}" in points
    license_text = wheel.read(f"{info}/licenses/LICENSE").decode()
    assert "Apache License" in license_text
    assert "END OF TERMS AND CONDITIONS" in license_text
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert f"Version: {PROJECT['project']['version']}" in metadata
    assert "License-Expression: Apache-2.0" in metadata


def test_the_version_is_the_same_everywhere() -> None:
    import nas_edge

    assert nas_edge.__version__ == PROJECT["project"]["version"]


def test_constraints_pin_every_dependency_within_its_range() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for text in [*PROJECT["project"]["dependencies"], *(text for extra in extras for text in extra)]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), text


@pytest.fixture(scope="module")
def ternary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The third-party plugin, installed by pip into a folder of its own."""
    folder = tmp_path_factory.mktemp("third_party")
    source, site = folder / "source", folder / "site"
    _run("cp", "-r", str(TERNARY), str(source))
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(*pip, "--no-deps", "--no-build-isolation", "--target", str(site), str(source))
    return site


def test_a_plugin_of_somebody_else_is_listed_beside_ours(ternary: Path) -> None:
    command = (sys.executable, "-c", "import sys; from nas_edge.cli import main; sys.exit(main(['plugins', '--json']))")
    rows = {row["name"]: row for row in json.loads(_run(*command, PYTHONPATH=str(ternary)))["techniques"]}
    assert rows["ternary"] == {
        "name": "ternary",
        "version": 1,
        "summary": "weights of three values, a scale for each filter",
        "plugin": "ternary",
        "distribution": "nas-edge-ternary",
        "distribution_version": "0.1.0",
    }
    assert "prune" in rows
    without = json.loads(_run(*command, PYTHONPATH=str(ternary), NAS_EDGE_LOAD_PLUGINS=""))
    assert "ternary" not in {row["name"] for row in without["techniques"]}


FINALIZE = """
import json, torch
from torch import nn
from nas_edge.plugins import load_plugins

torch.manual_seed(0)
technique = load_plugins().find("technique", "ternary")
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
before = model[0].weight.detach().clone()
after = technique.finalize(model, technique.config_type(), None)[0].weight.detach()
untouched = bool(torch.equal(before, model[0].weight))
print(json.dumps({"untouched": untouched, "before": before.tolist(), "after": after.tolist()}))
"""


def test_the_plugin_of_somebody_else_does_what_its_paper_says(ternary: Path) -> None:
    """Li et al. 2016, equations 5 and 6, a filter at a time, worked out here in numpy."""
    import numpy as np

    result = json.loads(_run(sys.executable, "-c", FINALIZE, PYTHONPATH=str(ternary)))
    assert result["untouched"]
    for before, after in zip(np.array(result["before"]), np.array(result["after"]), strict=True):
        kept = np.abs(before) > 0.7 * np.mean(np.abs(before))
        scale = np.abs(before[kept]).mean()
        np.testing.assert_allclose(after, np.where(kept, np.sign(before) * scale, 0.0), rtol=1e-5)
        assert len(np.unique(np.round(after, 6))) == 3
