"""How many times as fast several workers finish a search of the digits as one does, where training dominates.

    python benchmarks/workers.py [--workers 2] [--rounds 3] [--trials 24] [--samples 12000] [--json]

Each round runs `nas-edge search` with one worker and with several, one after the other and each first in every other
round, in new folders and with the same candidates. The speedup is that of the whole command, from its start to its end:
the calibration, the measurements and the starts of processes are in it, and one worker trains on all cores. That of the
trials alone stands beside it. No technique acts, for steps whose latency no profile knows are measured, one at a time;
no teacher is trained, which is the work of one process, however many there are; and no finalist for longer, though
workers share those out: the fronts differ by chance. To be run on an idle machine. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.support.log import log
from nas_edge.engine.workers import available_cores
from nas_edge.store.study import StoredStudy

NAME, GOAL = "workers", 1.7
STUDY = """\
study = "{name}"
data = "digits"
sampler = "random"
techniques = []
trials = {trials}
seed = 0
latency_first = false
calibration_seconds = 10.0
[train]
samples = {samples}
final_budget = 0
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--samples", type=int, default=12_000, help="images that a candidate is trained on")
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    rounds: dict[int, list[dict[str, float]]] = {1: [], arguments.workers: []}
    for number in range(arguments.rounds):
        for workers in sorted(rounds, reverse=bool(number % 2)):
            rounds[workers].append(_timed(workers, arguments))
            log(f"round {number + 1}: {workers} workers: {rounds[workers][-1]}")
    speedups = {part: _speedups(rounds[1], rounds[arguments.workers], part) for part in ("command_s", "trials_s")}
    median = statistics.median(speedups["command_s"])
    found: dict[str, Any] = {
        "benchmark": "workers",
        "workers": arguments.workers,
        "cores": available_cores(),
        "trials": arguments.trials,
        "samples": arguments.samples,
        "seconds": rounds,
        "speedup": speedups,
        "median_speedup": median,
        "goal": GOAL,
        "reached": median >= GOAL,
    }
    print(json.dumps(found))


def _timed(workers: int, arguments: argparse.Namespace) -> dict[str, float]:
    """The seconds of a search: of the command, and of its trials from the first's start to the last's end."""
    with tempfile.TemporaryDirectory(prefix="workers_") as name:
        folder = Path(name)
        file = folder / "study.toml"
        file.write_text(STUDY.format(name=NAME, trials=arguments.trials, samples=arguments.samples))
        command = (sys.executable, "-m", "nas_edge", "search", str(file), "--out", name, "--workers", str(workers))
        start = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        command_s = time.monotonic() - start
        trials = StoredStudy.load(NAME, f"sqlite:///{folder / 'study.db'}").evaluated()
        starts = [t.datetime_start for t in trials if t.datetime_start]
        ends = [t.datetime_complete for t in trials if t.datetime_complete]
        trials_s = (max(ends) - min(starts)).total_seconds()
        return {"command_s": round(command_s, 1), "trials_s": round(trials_s, 1)}


def _speedups(one: list[dict[str, float]], several: list[dict[str, float]], part: str) -> list[float]:
    return [round(a[part] / b[part], 3) for a, b in zip(one, several, strict=True)]


if __name__ == "__main__":
    main()
