"""What the tests of the command line share: real processes, with or without somebody's plugins."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from ..studies import NAS_EDGE


def install(folder: Path, name: str, source: str) -> None:
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[nas_edge]\n{name} = {name}\n")


def run(*arguments: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run((*NAS_EDGE, *arguments), capture_output=True, text=True, env=environment(site))


def environment(site: Path | None) -> dict[str, str]:
    values = {**os.environ, "COLUMNS": "160", "NAS_EDGE_LOAD_PLUGINS": ""}
    if site is not None:
        values["PYTHONPATH"] = str(site)
        del values["NAS_EDGE_LOAD_PLUGINS"]
    return values


def run_json(*arguments: str, site: Path | None = None) -> dict[str, Any]:
    done = run(*arguments, "--json", site=site)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value
