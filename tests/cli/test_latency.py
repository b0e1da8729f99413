"""`nas-edge measure`, as a user sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_edge import Measurement
from nas_edge.cli.latency import _measured
from nas_edge.targets.campaign import reference_model

from .command import run, run_json

FINGERPRINT = {
    "cpu": "Board",
    "instruction_sets": ["neon", "asimddp"],
    "onnxruntime": "1.31.1",
    "provider": "CPUExecutionProvider",
    "threads": 2,
    "affinity": [2, 3],
    "governor": "performance",
    "load": 0.25,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(reference_model())
    return path


def test_measure_says_what_its_latency_holds_for(model: Path) -> None:
    result = run_json("measure", str(model), "--seconds", "0.6")
    assert 0 < result["low_ms"] <= result["p50_ms"] <= result["high_ms"]
    assert result["p50_ms"] <= result["p90_ms"]
    assert result["target"] == "local" and result["model"] == str(model)
    assert result["processes"] == 3 and result["visits"] >= 3 and result["samples"] >= 9
    assert result["speed"] > 0 and "unstable_because" in result
    world = result["fingerprint"]
    assert world["threads"] == 1 and len(world["affinity"]) == 1
    assert world["provider"] == "CPUExecutionProvider"
    assert {"cpu", "instruction_sets", "onnxruntime", "governor", "load"} <= set(world)


def test_measure_tells_a_person_the_same(model: Path) -> None:
    done = run("measure", str(model), "--target", "local?processes=1", "--seconds", "0.3")
    assert done.returncode == 0, done.stderr
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert " ms  (95 % interval " in lines["median"] and "at most " in lines["90 % of runs"]
    assert "visits to 1 process at 100% of the usual speed" in lines["from"]
    assert "local?processes=1: " in lines["target"] and "onnxruntime" in lines["target"]
    assert "affinity core " in lines["set-up"] and "doubt" in lines


def test_measure_shows_doubts_and_whatever_a_target_knows() -> None:
    told = _measured(
        Measurement(1.2346, 1.5, 1.2, 1.3, 90, "ssh://board?threads=2", FINGERPRINT, "two speeds", 12, 3, 0.934)
    )
    assert told == {
        "median": "1.235 ms  (95 % interval 1.2 to 1.3)",
        "90 % of runs": "at most 1.5 ms",
        "from": "90 runs in 12 visits to 3 processes at 93% of the usual speed, which the median is for",
        "target": "ssh://board?threads=2: Board, 2 threads, onnxruntime 1.31.1, CPUExecutionProvider",
        "instruction sets": "neon asimddp",
        "set-up": "affinity cores 2, 3, governor performance, load 0.25",
        "doubt": "two speeds",
    }
    told = _measured(Measurement(1.0, 1.0, 1.0, 1.0, 10, "bench"))
    assert told["from"] == "10 runs" and told["doubt"] == "none"
    assert told["set-up"] == "affinity none, governor unknown, load unknown"


@pytest.mark.parametrize("option", ["0", "two"])
def test_wrong_threads_cost_one_line(model: Path, option: str) -> None:
    done = run("measure", str(model), "--threads", option)
    assert done.returncode == 2 and done.stdout == ""
    assert "threads" in done.stderr and option in done.stderr and "Traceback" not in done.stderr
