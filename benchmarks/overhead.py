"""What the search itself costs for one more trial: sampling, storing and bookkeeping, without training or inference.

    python benchmarks/overhead.py [--trials 1000] [--samplers surrogate nsga2 tpe random] [--json]

Runs the real loop on a real SQLite study with an evaluation that takes no time, and reports the median milliseconds
of the last 50 trials before each milestone. The goal is at most 150 ms at 1,000 stored trials. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import optuna

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.support.instant import Clock, instant
from nas_edge.config import StudyConfig
from nas_edge.engine import loop
from nas_edge.engine.session import Session
from nas_edge.plugins import load_plugins
from nas_edge.store.study import StoredStudy

WINDOW = 50
GOAL_MS = 150.0


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
