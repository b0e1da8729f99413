"""The plugins that the how-to pages write pass the kit, each in the package that `nas-edge new-plugin` made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nas_edge.cli import main

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("page", "name", "kind", "most_lines"),
    [
        ("own_space", "plain", "space", 35),
        pytest.param("own_technique", "rounded", "technique", 30, marks=pytest.mark.long),
    ],
)
def test_what_the_page_writes_passes_the_kit(
    page: str, name: str, kind: str, most_lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", name, "--kind", kind]) == 0
    package = tmp_path / f"nas-edge-{name}"
    module, *tests = BLOCK.findall((DOCS / f"{page}.md").read_text())
    assert sum(bool(line.strip()) for line in module.splitlines()) <= most_lines
    (package / f"nas_edge_{name}.py").write_text(module)
    for test in tests:
        (package / "tests" / f"test_{name}.py").write_text(test)
    pytest_here = (sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider")
    path = os.pathsep.join([str(package), *sys.path])
    done = subprocess.run([*pytest_here, str(package)], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
    assert int(re.findall(rb"(\d+) passed", done.stdout)[0]) >= 10
