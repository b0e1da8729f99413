"""What `nas-edge compress` makes of a trained network, beside single techniques on their own.

    python benchmarks/compression.py --data fashion-mnist:ROOT [--seeds 0 1 2] [--images 600000] [--folder F] [--json]

One MobileNetV2-style baseline is trained until its validation accuracy has stopped rising, and stored. Then each way
gets it for each seed: ONNX Runtime's `quantize_static` (which trains nothing), torch-pruning at several ratios,
distillation to smaller networks, and `nas-edge compress`. The ways that train share out the same number of images.
What each one makes is tested in ONNX Runtime on the test split, and its files are measured in one campaign with the
baseline, which all ways are compared by. Steps that are stored in the folder are not done again, so an interrupted run
goes on; the figures of a seed and way on a device are kept in `results`, and read from there. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.support.baseline_training import Setting, trained_baseline
from benchmarks.support.compression_ways import ASKED, COMPRESS, SINGLE, WAYS, Model, compress
from benchmarks.support.log import log
from nas_edge.export.runtime import accuracy
from nas_edge.targets.address import fingerprint_key
from nas_edge.targets.local import LocalTarget

MODELS = {"fashion-mnist": "fashion_mnist", "cifar10": "cifar10"}
SECONDS = 3.0  # to measure one file
FIGURES = {"min_speedup": "speedup", "min_size_reduction": "smaller_percent"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="fashion-mnist:ROOT or cifar10:ROOT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=600_000, help="that each way's trainings see in all, for a seed")
    parser.add_argument("--ways", nargs="+", choices=(*WAYS, COMPRESS), default=[*WAYS, COMPRESS])
    parser.add_argument("--folder", type=Path, default=Path("runs/compression-benchmark"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="the seeds' figures")
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    print(json.dumps(run(arguments)))


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    name = MODELS[arguments.data.partition(":")[0]]
    setting = Setting(arguments.data, name, arguments.folder)
    target = LocalTarget()
    device = target.fingerprint()
    key = fingerprint_key(device)[:8]
    given, rows = [], []
    for seed in arguments.seeds:
        for way in arguments.ways:
            file = "-".join(["compression", name, str(arguments.images), str(seed), way.replace(" ", "-"), key])
            kept = arguments.results / f"{file}.json"
            if not kept.exists():
                log(f"seed {seed}: {way}")
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(_made(setting, way, seed, arguments.images, target), indent=1) + "\n")
            found = json.loads(kept.read_text())
            given.append({"seed": seed, "way": way, **found["baseline"]})
            rows += found["models"]
    return {
        "benchmark": "compression",
        "data": arguments.data,
        "device": device,
        "images": arguments.images,
        "baselines": given,
        "models": rows,
        "goals": {goal: _goal(rows, goal) for goal in ASKED},
        "dominated": {way: _dominated(rows, way) for way in SINGLE if way in arguments.ways},
    }


def _made(setting: Setting, way: str, seed: int, images: int, target: LocalTarget) -> dict[str, Any]:
    """What a way makes for a seed, measured beside the baseline."""
    baseline = trained_baseline(setting)
    found = WAYS.get(way, compress)(setting, baseline.network, seed, images)
    models = [Model("baseline", "as trained", seed, baseline.path), *found]
    rows = [_row(model, setting) for model in models]
    measured = target.measure_many([model.path for model in models], SECONDS)
    given = rows[0]
    for row, measurement in zip(rows, measured, strict=True):
        row["latency_ms"] = round(measurement.p50_ms, 5)
        row["loss_points"] = round(100 * (given["test_accuracy"] - row["test_accuracy"]), 2)
        row["speedup"] = round(given["latency_ms"] / row["latency_ms"], 3)
        row["smaller_percent"] = round(100 * (1 - row["bytes"] / given["bytes"]), 1)
        row["unstable_because"] = measurement.unstable_because
    return {"baseline": {**given, "validation_by_round": baseline.validation}, "models": rows[1:]}


def _row(model: Model, setting: Setting) -> dict[str, Any]:
    return {
        "way": model.way,
        "name": model.name,
        "seed": model.seed,
        "chosen_for": model.chosen_for,
        "test_accuracy": round(accuracy(model.path, setting.images.test), 5),
        "bytes": model.path.stat().st_size,
    }


def _goal(rows: list[dict[str, Any]], goal: str) -> dict[str, Any]:
    """What each way reaches within the loss that a goal allows, for each seed and the median of them.

    Of `compress` that is the model that it ships for this goal; the others have their best on the test split itself.
    """
    asked = dict(ASKED[goal])
    most_loss = asked.pop("max_drop")
    [(name, wanted)] = asked.items()
    result = {}
    for way in sorted({row["way"] for row in rows}):
        best = []
        for seed in sorted({row["seed"] for row in rows}):
            mine = [row for row in rows if (row["way"], row["seed"]) == (way, seed)]
            if way == COMPRESS:
                mine = [row for row in mine if row["chosen_for"] == goal]
            best.append(max((row[FIGURES[name]] for row in mine if row["loss_points"] <= most_loss), default=0.0))
        result[way] = {"median": statistics.median(best), "seeds": best, "reached": statistics.median(best) >= wanted}
    return result


def _dominated(rows: list[dict[str, Any]], way: str) -> dict[str, Any]:
    """Which models of a way are no better in accuracy than one of `compress` that is as fast, and one as small."""
    mine = [row for row in rows if row["way"] == way]
    ours = [row for row in rows if row["way"] == COMPRESS]

    def beaten(row: dict[str, Any], figure: str) -> bool:
        return any(
            other["seed"] == row["seed"]
            and other[figure] >= row[figure]
            and other["test_accuracy"] >= row["test_accuracy"]
            for other in ours
        )

    left = {figure: [row["name"] for row in mine if not beaten(row, figure)] for figure in FIGURES.values()}
    return {"models": len(mine), "not_beaten_in": left}


if __name__ == "__main__":
    main()
