"""How well a second measurement agrees with the first: the ceiling of every predictor of measured latencies.

    python benchmarks/remeasure.py [--networks 60] [--minutes-apart 10] [--seconds 1.5] [--target local]

Makes random candidates of the mobilenet space (float and int8, for images of 8 to 224 px), and measures them twice, in
separate processes that know of each other only the speed that the first found usual. `seconds_a_network` is all that a
campaign took, start and loading included. The goals: within 5 % for 90 % of the networks, within 10 % for 98 %. Prints
one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

GOALS = (0.90, 0.98)  # shares within 5 and 10 %
GOAL_S = 1.5
QUANTIZING = ("QuantizeLinear", "DynamicQuantizeLinear")
STARTING_S = 2.0  # of the processes; all else is in a campaign's budget


def make_networks(count: int, folder: Path, seed: int) -> list[bool]:
    """Random candidates as ONNX files in a folder; for each whether it is quantized."""
    from nas_edge.config import make_config
    from nas_edge.engine.calibration import any_candidates
    from nas_edge.errors import InvalidCandidate
    from nas_edge.plugins import load_plugins

    candidates = any_candidates(make_config(None, {"space": "mobilenet"}), load_plugins(), seed)
    int8: list[bool] = []
    for index in itertools.count():
        if len(int8) == count:
            break
        with contextlib.suppress(InvalidCandidate):
            model = candidates(index)
            (folder / f"network{len(int8):03d}.onnx").write_bytes(model.SerializeToString())
            int8.append(any(node.op_type in QUANTIZING for node in model.graph.node))
    return int8


def measure(folder: Path, seconds: float, target: str) -> dict[str, Any]:
    """One campaign over the networks of a folder."""
    from nas_edge.plugins import load_plugins
    from nas_edge.targets.address import parse_target

    paths = sorted(folder.glob("*.onnx"))
    device = parse_target(load_plugins().targets, target)
    start = time.monotonic()
    results = device.measure_many(paths, seconds - STARTING_S / len(paths))
    took_s = time.monotonic() - start
    return {
        "seconds_a_network": took_s / len(paths),
        "visits": statistics.median(r.visits or 0 for r in results),
        "unstable": sum(r.unstable_because is not None for r in results),
        "networks": [{"ms": r.p50_ms, "low_ms": r.low_ms, "high_ms": r.high_ms, "speed": r.speed} for r in results],
    }


def measure_apart(folder: Path, seconds: float, target: str, home: Path) -> dict[str, Any]:
    """`measure` in a process of its own, which keeps its anchor under `home`."""
    command = [sys.executable, __file__, "--measure", str(folder), "--seconds", str(seconds), "--target", target]
    environment = {**os.environ, "XDG_CACHE_HOME": str(home)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def agreement(first: list[dict[str, float]], second: list[dict[str, float]]) -> dict[str, Any]:
    """How the second campaign's latencies differ from the first's. A bias is the median of the relative differences."""
    differences = [b["ms"] / a["ms"] - 1 for a, b in zip(first, second, strict=True)]
    # Latencies as the two campaigns saw them, each at the speed that the device then had.
    seen = [math.log((b["ms"] / b["speed"]) / (a["ms"] / a["speed"])) for a, b in zip(first, second, strict=True)]
    pairs = zip(first, second, strict=True)
    overlapping = [a["low_ms"] <= b["high_ms"] and b["low_ms"] <= a["high_ms"] for a, b in pairs]
    return {
        "within_5_percent": _share([abs(d) <= 0.05 for d in differences]),
        "within_10_percent": _share([abs(d) <= 0.10 for d in differences]),
        "median_difference": round(statistics.median(map(abs, differences)), 4),
        "largest_difference": round(max(map(abs, differences)), 4),
        "bias": round(statistics.median(differences), 4),
        "bias_without_anchor": round(math.expm1(statistics.median(seen)), 4),
        "intervals_overlap": _share(overlapping),
    }


def _share(hits: list[bool]) -> float:
    return round(sum(hits) / len(hits), 4)


def benchmark(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    models = folder / "models"
    models.mkdir()
    int8 = make_networks(arguments.networks, models, arguments.seed)
    first = measure_apart(models, arguments.seconds, arguments.target, folder)
    time.sleep(60 * arguments.minutes_apart)
    second = measure_apart(models, arguments.seconds, arguments.target, folder)
    campaigns = (first, second)
    networks = [campaign["networks"] for campaign in campaigns]
    figures = agreement(*networks)
    quantized = [list(itertools.compress(measured, int8)) for measured in networks]
    return {
        "benchmark": "remeasure",
        "target": arguments.target,
        "networks": len(int8),
        "latency_ms": [round(pick(a["ms"] for a in networks[0]), 4) for pick in (min, max)],
        "minutes_apart": arguments.minutes_apart,
        **figures,
        "int8": {"networks": sum(int8), **(agreement(*quantized) if any(int8) else {})},
        "seconds_a_network": [round(campaign["seconds_a_network"], 3) for campaign in campaigns],
        "visits_a_network": [campaign["visits"] for campaign in campaigns],
        "unstable": [campaign["unstable"] for campaign in campaigns],
        "goals": {"within_5_percent": GOALS[0], "within_10_percent": GOALS[1], "seconds_a_network": GOAL_S},
        "reached": figures["within_5_percent"] >= GOALS[0]
        and figures["within_10_percent"] >= GOALS[1]
        and all(campaign["seconds_a_network"] <= GOAL_S for campaign in campaigns),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--minutes-apart", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=1.5, help="for each network and campaign")
    parser.add_argument("--target", default="local")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure, arguments.seconds, arguments.target)))
        return
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        print(json.dumps(benchmark(arguments, Path(folder))))


if __name__ == "__main__":
    main()
