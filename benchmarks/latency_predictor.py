"""How well latencies are predicted on this CPU, against measuring twice and against the simple ways.

    python benchmarks/latency_predictor.py [--minutes 8] [--networks 200] [--threads 1] [--profiles search any] [--json]

Calibrates from nothing, then predicts and measures unseen random candidates of the mobilenet space, spread evenly over
latency (float and int8; unpruned, pruned, low-rank; each attention). It does so for each way to calibrate: `search`, as
a search of images of 3 x 32 x 32 values does it (`nas-edge calibrate --data cifar10:...`), and `any`, for networks of
any family and size (`nas-edge calibrate`), which is held against torchvision's families at 96 to 224 px too. The
ceiling is how well a second measurement, in other processes, agrees with the first. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.support.simple_predictors import simple_predictors
from benchmarks.support.torchvision_families import write_families
from nas_edge.config import make_config
from nas_edge.engine.calibration import any_candidates, calibrated
from nas_edge.engine.candidates import CALIBRATION_SEED, RandomCandidates, noise_images, with_probes
from nas_edge.engine.progress import Progress
from nas_edge.errors import InvalidCandidate
from nas_edge.latency.graph import kernels_of, total_macs
from nas_edge.latency.profile import Profile
from nas_edge.onnx_files import read_onnx
from nas_edge.plugins import load_plugins
from nas_edge.records import Prediction

TEST_SEED = 7_000_003
POOL = 2.5  # candidates made for each that is kept
BINS = 20
SEARCH, ANY = "search", "any"
SIDE = 32  # of the images that the search is for
CLEARLY = 0.10  # two candidates differ clearly


class Log(Progress):
    def phase(self, text: str) -> None:
        print(text, file=sys.stderr)

    def say(self, text: str) -> None:
        print(text, file=sys.stderr)


def spread_candidates(candidates: RandomCandidates, count: int, folder: Path) -> list[Path]:
    """Unseen candidates, as evenly as they come over the logarithm of their multiply-accumulates."""
    pool: list[tuple[float, Path]] = []
    for index in range(round(POOL * count)):
        try:
            model = candidates(index)
        except InvalidCandidate:
            continue
        path = folder / f"candidate_{index:04d}.onnx"
        path.write_bytes(model.SerializeToString())
        pool.append((math.log(max(total_macs(model) or 1, 1)), path))
    low, high = min(pool)[0], max(pool)[0]
    bins: list[list[Path]] = [[] for _ in range(BINS)]
    for size, path in pool:
        bins[min(int((size - low) / (high - low + 1e-9) * BINS), BINS - 1)].append(path)
    kept: list[Path] = []
    while len(kept) < count and any(bins):
        kept += [each.pop(0) for each in bins if each]
    return sorted(kept[:count])


def figures(predicted: Sequence[float], measured: Sequence[float]) -> dict[str, float]:
    """Shares within 5 % and 10 %, the mean absolute error, Kendall's tau, and the pairs that are chosen right."""
    errors = np.array(predicted) / np.array(measured) - 1
    return {
        "networks": len(errors),
        "within_5_percent": round(float(np.mean(np.abs(errors) <= 0.05)), 3),
        "within_10_percent": round(float(np.mean(np.abs(errors) <= 0.10)), 3),
        "mape": round(float(np.mean(np.abs(errors))), 4),
        "median": round(float(np.median(np.abs(errors))), 4),
        "bias": round(float(np.median(errors)), 4),
        "worst": round(float(np.max(np.abs(errors))), 3),
        "kendall_tau": round(float(kendalltau(predicted, measured)[0]), 4),
        "right_of_two": round(right_of_two(predicted, measured), 4),
    }


def right_of_two(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """The share of pairs whose measured latencies differ by 10 % or more where the faster is predicted faster."""
    p, m = np.log(predicted), np.log(measured)
    apart = m[:, None] - m[None] >= math.log(1 + CLEARLY)
    return float(np.mean((p[:, None] > p[None])[apart]))


def is_int8(model: onnx.ModelProto) -> bool:
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="of each calibration")
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1.5, help="to measure one network")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profiles", nargs="+", choices=(SEARCH, ANY), default=[SEARCH, ANY])
    parser.add_argument("--no-simple", action="store_true", help="leave out the simple ways, which take as long again")
    parser.add_argument("--keep", type=Path, help="a folder for the models and what was measured")
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # from nothing: no anchor, no profile
        root = arguments.keep or Path(folder) / "models"
        print(json.dumps(run(arguments, root)))


def run(arguments: argparse.Namespace, root: Path) -> dict[str, Any]:
    config = make_config(None, {"target": f"local?threads={arguments.threads}"})
    registry = load_plugins()
    training, unseen = (any_candidates(config, registry, seed) for seed in (CALIBRATION_SEED, TEST_SEED))
    result: dict[str, Any] = {
        "benchmark": "latency_predictor",
        "cpu": training.target.fingerprint()["cpu"],
        "threads": arguments.threads,
    }
    for name in arguments.profiles:
        data = noise_images(SIDE, 3, 10, 0) if name == SEARCH else None
        known, new = (replace(candidates, data=data) for candidates in (training, unseen))
        result[name] = _profile_figures(known, new, arguments, root / name)
    result["reached"] = {name: _reached(result[name], arguments.threads) for name in arguments.profiles}
    return result


def _profile_figures(
    training: RandomCandidates, unseen: RandomCandidates, arguments: argparse.Namespace, root: Path
) -> dict[str, Any]:
    """One calibration, and how it predicts candidates and, if it is for any network, families."""
    for name in ("calibration", "candidates", "families"):
        (root / name).mkdir(parents=True, exist_ok=True)
    of_any_size = training.data is None
    seen: list[tuple[Path, float]] = []
    start = time.monotonic()
    profile = calibrated(
        training.target,
        partial(_stored, partial(with_probes, training) if of_any_size else training, root / "calibration"),
        training.domain,
        60 * arguments.minutes,
        Log(),
        record=lambda path, ms: seen.append((path, ms)),
    )
    took_s = time.monotonic() - start
    paths = spread_candidates(unseen, arguments.networks, root / "candidates")
    families = write_families(root / "families") if of_any_size else []
    both = [*paths, *families]
    measured, again = (_measure(training, both, arguments.seconds) for _ in range(2))
    models = [read_onnx(path) for path in both]
    predictions, predict_ms = _predict(profile, models)
    if arguments.keep:
        kept = {"seen": seen, "paths": both, "measured": measured, "again": again, "profile": profile.to_json()}
        (root / "kept.pickle").write_bytes(pickle.dumps(kept))
    count = len(paths)
    kinds = {"int8": [i for i in range(count) if is_int8(models[i])]}
    kinds["float"] = [i for i in range(count) if i not in kinds["int8"]]
    ms = [p.ms for p in predictions]
    result = {
        "calibration": {"models": len(seen), "seconds": round(took_s, 1), **profile.summary()["error"]},
        "latency_ms": [round(min(measured[:count]), 4), round(max(measured[:count]), 4)],
        "prediction_ms": round(predict_ms, 2),
        "unsupported": sum(bool(p.unsupported) for p in predictions[:count]),
        "outside": sum(p.outside is not None for p in predictions[:count]),
        "in_interval": round(
            statistics.fmean(p.low_ms <= m <= p.high_ms for p, m in zip(predictions[:count], measured, strict=False)), 3
        ),
        "candidates": figures(ms[:count], measured[:count]),
        "ceiling": figures(again[:count], measured[:count]),
    }
    for kind, places in kinds.items():
        result[kind] = figures([ms[i] for i in places], [measured[i] for i in places])
        result[f"{kind}_ceiling"] = figures([again[i] for i in places], [measured[i] for i in places])
    if families:
        result["families"] = _families(families, predictions[count:], measured[count:], again[count:])
    if not arguments.no_simple:
        works = [kernels_of(model) for model in models[:count]]
        simple = simple_predictors(seen, 60 * arguments.minutes, arguments.threads)
        result["simple"] = {name: figures(predict(paths, works), measured[:count]) for name, predict in simple.items()}
    return result


def _stored(sample: Callable[[int], onnx.ModelProto], folder: Path, index: int) -> Path:
    path = folder / f"network_{index:04d}.onnx"
    path.write_bytes(sample(index).SerializeToString())
    return path


def _measure(candidates: RandomCandidates, paths: Sequence[Path], seconds: float) -> list[float]:
    return [m.p50_ms for m in candidates.target.measure_many(paths, seconds)]


def _predict(profile: Profile, models: Sequence[onnx.ModelProto]) -> tuple[list[Prediction], float]:
    """The predictions, and the median time of one in ms."""
    predictions, times = [], []
    for model in models:
        start = time.perf_counter()
        predictions.append(profile.predict(model))
        times.append(1e3 * (time.perf_counter() - start))
    return predictions, statistics.median(times)


def _families(
    paths: Sequence[Path], predictions: Sequence[Prediction], measured: Sequence[float], again: Sequence[float]
) -> dict[str, Any]:
    """The errors of each network of a family; one is silent where nothing flags the prediction."""
    rows = {
        path.stem: {
            "measured_ms": round(m, 3),
            "error": round(p.ms / m - 1, 3),
            "again": round(second / m - 1, 3),
            "flagged": bool(p.unsupported or p.outside),
            "high_error": round(p.high_ms / p.ms - 1, 3),
        }
        for path, p, m, second in zip(paths, predictions, measured, again, strict=True)
    }
    silent = [abs(r["error"]) for r in rows.values() if not r["flagged"]]
    return {
        "all": figures([p.ms for p in predictions], measured),
        "ceiling": figures(again, measured),
        "silently_over_30_percent": sum(e > 0.30 for e in silent),
        "flagged": sum(r["flagged"] for r in rows.values()),
        "networks": rows,
    }


def _reached(result: dict[str, Any], threads: int) -> dict[str, bool]:
    """The goals, as shares of the ceiling where that is what limits."""
    own, ceiling, int8, int8_ceiling = (result[k] for k in ("candidates", "ceiling", "int8", "int8_ceiling"))
    w5, w10 = "within_5_percent", "within_10_percent"
    if threads > 1:
        return {"kendall_tau": own["kendall_tau"] >= 0.93}
    goals = {
        "within_5_percent": own[w5] >= 0.92 * ceiling[w5],
        "within_10_percent": own[w10] >= 0.96 * ceiling[w10],
        "kendall_tau": own["kendall_tau"] >= 0.95,
        "mape": own["mape"] <= 0.04,
        "calibration": result["calibration"]["models"] <= 400 and result["calibration"]["seconds"] <= 480,
        "int8_within_5_percent": int8[w5] >= 0.85 * int8_ceiling[w5],
        "int8_within_10_percent": int8[w10] >= 0.93 * int8_ceiling[w10],
        "right_of_two": own["right_of_two"] >= 0.97,
        "prediction_ms": result["prediction_ms"] <= 5,
    }
    if "families" in result:
        families = result["families"]
        goals["families"] = families["all"][w10] >= min(0.80, families["ceiling"][w10])
        goals["families_silent"] = families["silently_over_30_percent"] == 0
    if "simple" in result:
        goals["simple_ways_worse"] = all(way[w5] < own[w5] - 0.1 for way in result["simple"].values())
    return goals


if __name__ == "__main__":
    main()
