"""`nas-edge measure` and `nas-edge predict`, as processes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import onnx
import pytest

from nas_edge.latency.graph import kernels_of
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.profile import Profile, default_path
from nas_edge.targets.local import LocalTarget

from ..studies import NAS_EDGE
from .networks import random_mobile


def nas_edge(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "NAS_EDGE_LOAD_PLUGINS": "", "COLUMNS": "160"}
    return subprocess.run((*NAS_EDGE, *arguments), capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "models"
    folder.mkdir()
    for seed in range(2):
        onnx.save(random_mobile(seed), folder / f"model{seed}.onnx")
    return sorted(folder.iterdir())


@pytest.fixture
def profile(models: list[Path]) -> Profile:
    """A profile of this machine that prices each kernel at 0.01 ms."""
    kinds = {k.kind for path in models for k in kernels_of(onnx.load(path)).kernels}
    model = LatencyModel(0.0, {kind: {"calls": 0.01} for kind in kinds})
    error = HeldOutError(0.03, 0.1, 0.7, 0.9, 80)
    return Profile("local", LocalTarget().fingerprint(), model, error, 0.01, 10.0, 0.1)


def test_measure_prints_one_object(models: list[Path], tmp_path: Path) -> None:
    done = nas_edge("measure", str(models[0]), "--threads", "1", "--seconds", "0.3", "--json", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 0 < result["p50_ms"] <= result["p90_ms"]
    assert result["target"] == "local" and "unstable_because" in result
    assert result["fingerprint"]["threads"] == 1


def test_predict_from_a_file_and_from_the_kept_profile(models: list[Path], profile: Profile, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    profile.save(file)
    done = nas_edge("predict", str(models[0]), "--target", str(file), "--json", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    one = json.loads(done.stdout)
    assert one["ms"] == pytest.approx(0.01 * (len(one["kernels"]) - 1))
    assert one["low_ms"] < one["ms"] < one["high_ms"] and one["unsupported"] == []

    kept = tmp_path / default_path(profile.fingerprint).relative_to(default_path({}).parents[2])
    profile.save(kept)
    done = nas_edge("predict", *map(str, models), "--json", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    several = json.loads(done.stdout)["predictions"]
    assert [p["path"] for p in several] == [str(m) for m in models]
    assert several[0]["ms"] == one["ms"]
    done = nas_edge("predict", str(models[0].parent), cache=tmp_path)
    assert done.returncode == 0 and "model1.onnx" in done.stdout


def test_a_target_without_a_profile_names_the_remedy(models: list[Path], tmp_path: Path) -> None:
    done = nas_edge("predict", str(models[0]), cache=tmp_path / "empty")
    assert done.returncode == 2
    assert "nas-edge calibrate --target local" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("measure", "missing.onnx"), "missing.onnx: no such file"),
        (("measure", "{text}"), "not_a_model.onnx: not an ONNX model"),
        (("measure", "{model}", "--threads", "0"), "threads is '0'"),
        (("measure", "{model}", "--target", "lokal"), "did you mean 'local'"),
        (("measure", "{model}", "--target", "local?threads=1", "--threads", "1"), "both give threads"),
        (("predict", "{text}", "--target", "{profile}"), "not_a_model.onnx"),
        (("predict", "{model}", "--target", "missing.json"), "missing.json: cannot be read"),
        (("predict", "{empty}", "--target", "{profile}"), "holds no .onnx file"),
    ],
)
def test_mistakes_cost_one_line(
    arguments: tuple[str, ...], reason: str, models: list[Path], profile: Profile, tmp_path: Path
) -> None:
    text, file, empty = tmp_path / "not_a_model.onnx", tmp_path / "profile.json", tmp_path / "empty"
    text.write_text("no model")
    profile.save(file)
    empty.mkdir()
    names = {"text": text, "model": models[0], "profile": file, "empty": empty}
    done = nas_edge(*(a.format(**names) for a in arguments), cache=tmp_path)
    assert done.returncode == 2, done.stderr
    assert reason in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr and done.stdout == ""
