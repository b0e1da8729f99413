"""`nas-edge doctor` on this machine, and where something is missing."""

from __future__ import annotations

import json
import os
import sys

import pytest

from nas_edge.cli import main
from nas_edge.cli.doctor import _libraries, _physical_cores

from .command import run_json


def test_doctor_finds_nothing_missing_here() -> None:
    report = run_json("doctor")
    assert report["missing"] == []
    assert report["python"]["version"] == ".".join(str(n) for n in sys.version_info[:3])
    assert report["cpu"]["logical_cpus"] == os.cpu_count()
    assert set(report["cpu"]["usable_cpus"]) == os.sched_getaffinity(0)
    assert report["torch"]["threads"] >= 1
    assert "CPUExecutionProvider" in report["onnxruntime"]["providers"]
    assert {"torch", "onnxruntime", "optuna"} <= {row["name"] for row in report["libraries"]}
    assert report["folders"]["temporary"]["writable"]


def test_doctor_names_a_missing_library_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "nas_edge.cli.doctor.metadata.requires",
        lambda name: ["numpy>=1", "numpy>=99", "no-such-library>=2", "no-such-extra>=3; extra == 'dashboard'"],
    )
    fine, old, absent, optional = _libraries()
    assert fine["problem"] is None
    assert old["problem"].endswith(" is installed, and >=99 is needed")
    assert absent["problem"] == "no-such-library is not installed"
    assert optional["extra"] == "dashboard"


def test_doctor_exits_with_2_where_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["no-such-library>=2", "no-such-extra>=3; extra == 'dashboard'"]
    monkeypatch.setattr("nas_edge.cli.doctor.metadata.requires", lambda name: wanted)
    assert main(["doctor", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert "no-such-library is not installed; pip install 'no-such-library>=2'" in report["missing"]
    assert "no-such-extra is not installed; pip install 'nas-edge[dashboard]'" in report["advice"]
    assert main(["doctor"]) == 2
    assert "missing: no-such-library is not installed" in capsys.readouterr().out


def test_physical_cores_counts_different_pairs() -> None:
    pairs = [(0, 0), (0, 1), (0, 0), (0, 1), (1, 0)]  # two of them seen twice: hyper-threads
    text = "\n\n".join(f"processor\t: {i}\nphysical id\t: {s}\ncore id\t\t: {c}" for i, (s, c) in enumerate(pairs))
    assert _physical_cores(text) == 3
    assert _physical_cores("processor : 0\n") is None
