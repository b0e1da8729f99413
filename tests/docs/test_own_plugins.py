"""The plugins that the how-to pages write pass the kit, each in the package that `nas-edge new-plugin` made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nas_edge import InvalidCandidate
from nas_edge.cli import main
from nas_edge.testing import SearchSpaceTests

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def written(page: str) -> ModuleType:
    """The module that a page writes. It is among the modules meanwhile: dataclasses look for theirs."""
    module = sys.modules[page] = ModuleType(page)
    exec(compile(BLOCK.findall((DOCS / f"{page}.md").read_text())[0], page, "exec", dont_inherit=True), vars(module))
    del sys.modules[page]
    return module


def test_the_space_builds_at_its_corners_and_has_no_dead_parameter() -> None:
    space, checks = written("own_space").Plain(), SearchSpaceTests()
    checks.test_its_corners_build_train_and_export(space)
    checks.test_no_parameter_is_dead(space)


def test_the_technique_rounds_a_copy() -> None:
    page = written("own_technique")
    layer = torch.nn.Conv2d(3, 8, 3)
    given = layer.weight.detach().clone()
    weight = page.Rounded().finalize(layer, page.RoundedConfig(4), None).weight.detach()
    assert torch.equal(layer.weight, given) and not torch.equal(weight, given)
    sixteenths = torch.frexp(weight).mantissa * 16
    assert torch.equal(sixteenths, sixteenths.round())
    assert torch.allclose(weight, given, rtol=2**-4)
    with pytest.raises(InvalidCandidate, match="bits=0 must be"):
        page.RoundedConfig(0)


@pytest.mark.long
@pytest.mark.parametrize(
    ("page", "name", "kind", "most_lines"),
    [("own_space", "plain", "space", 35), ("own_technique", "rounded", "technique", 30)],
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
