"""What the search itself costs for one more trial: sampling, storing and bookkeeping, without training or inference.

    python benchmarks/overhead.py [--trials 1000] [--samplers surrogate nsga2 tpe random] [--json]

Runs the real loop on a real SQLite study with an evaluation that takes no time, and reports the median milliseconds
of the last 50 trials before each milestone. The goal is at most 150 ms at 1,000 stored trials. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
import optuna
from onnx import TensorProto, helper

from nas_edge.config import StudyConfig, TrainConfig
from nas_edge.contracts import Candidate, Context
from nas_edge.engine import loop
from nas_edge.engine.progress import Progress
from nas_edge.engine.session import Session
from nas_edge.plugins import Registry, load_plugins
from nas_edge.records import Evaluation
from nas_edge.spec import CandidateSpec
from nas_edge.store.study import StoredStudy

WINDOW = 50
GOAL_MS = 150.0


def tiny_model() -> onnx.ModelProto:
    """A valid ONNX file of a few hundred bytes."""
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, 8, 8])
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["logits"])], "tiny", [value], [result])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def instant(
    registry: Registry, spec: CandidateSpec, context: Context, train: TrainConfig, *others: object
) -> tuple[Candidate, Evaluation]:
    """An evaluation without work, whose figures follow from the candidate's key."""
    path = context.work_dir / "model.onnx"
    path.write_bytes(MODEL.SerializeToString())
    digest = hashlib.sha256(spec.key.encode()).digest()
    accuracy, latency_ms = digest[0] / 255, 0.1 + digest[1] / 255
    evaluation = Evaluation(
        key=spec.key,
        accuracy=accuracy,
        latency_ms=latency_ms,
        latency_low_ms=latency_ms * 0.9,
        latency_high_ms=latency_ms * 1.1,
        latency_source="predicted",
        size_bytes=path.stat().st_size,
        parameters=0,
        macs=0,
        onnx_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        seconds={"total": 0.0},
    )
    return Candidate(spec, graph=MODEL, onnx_path=path), evaluation


MODEL = tiny_model()


class Clock(Progress):
    """Notes when each trial ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def trial(self, number: int, outcome: str) -> None:
        self.ends.append(time.perf_counter())


def run(sampler: str, trials: int, folder: Path) -> dict[str, Any]:
    config = StudyConfig(
        study="overhead", out=str(folder), trials=trials, sampler=sampler, train_images=100, latency_first=False
    )
    session = Session.open(config, load_plugins())
    stored = StoredStudy.create_or_load(config, session.facts)
    clock = Clock()
    loop.run_trials(session, stored, clock)
    took_ms = [1000 * (after - before) for before, after in zip(clock.ends, clock.ends[1:], strict=False)]
    milestones = [n for n in (100, 300, 1000, 3000, 10000) if n < trials] + [trials]
    return {
        "stored_trials": milestones,
        "median_ms": [round(statistics.median(took_ms[max(0, n - 1 - WINDOW) : n - 1]), 1) for n in milestones],
        "worst_ms_of_the_last": round(max(took_ms[-WINDOW:]), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--samplers", nargs="+", default=["surrogate", "nsga2", "tpe", "random"])
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results = {}
    for sampler in arguments.samplers:
        with (
            tempfile.TemporaryDirectory(prefix="nas_edge_") as folder,
            mock.patch("nas_edge.engine.loop.evaluate", instant),
        ):
            results[sampler] = run(sampler, arguments.trials, Path(folder))
    reached = all(result["median_ms"][-1] <= GOAL_MS for result in results.values())
    print(json.dumps({"benchmark": "overhead", "goal_ms": GOAL_MS, "reached": reached, "samplers": results}))


if __name__ == "__main__":
    main()
