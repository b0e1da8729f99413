"""How soon the default search finds good trade-offs, beside Optuna's samplers with each candidate trained in full.

    python benchmarks/search_efficiency.py --data fashion-mnist:ROOT [--minutes 60] [--seeds 0] [--folder F] [--json]

Each way gets the same wall-clock on the same machine, latency profile and search space, all techniques included, and
trains a teacher on as many images. `nas-edge` is the default search; `random`, `tpe` and `nsga2` are Optuna's samplers
as this project sets them up, with every candidate trained from nothing on `--images`; `random-short` is random search
with trainings as short as ours, which tells what the search adds to those.

The front that each had after some minutes is then trained again, all in the same way, on `--images` and with the same
teacher, tested on the test split, and measured in one campaign. That time is on nobody's clock, and is printed. The
share is that of the hypervolume of all fronts together, up to a tenth beyond the slowest and the most wrong network
that nothing dominates at the end. What is done is kept in the folder; a search that was interrupted starts anew, for
its time counts. Prints one JSON object. Keep the machine idle meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.support.log import Log, log
from benchmarks.support.retraining import Retrained, Retraining
from nas_edge.config import DEFAULT_MOST_SAMPLES, StudyConfig, TrainConfig, make_config
from nas_edge.engine.run import run_search
from nas_edge.samplers.improvement import front, hypervolume
from nas_edge.store.locate import locate
from nas_edge.store.study import StoredStudy
from nas_edge.targets.local import LocalTarget

OURS = "nas-edge"
OPTUNA = ("random", "tpe", "nsga2")
SHORT = "random-short"
MINUTES = (2, 5, 10, 15, 20, 30, 45, 60)
SECONDS = 2.0  # to measure one file
ENDLESS = 1_000_000
TEACHER_IMAGES = round(DEFAULT_MOST_SAMPLES * TrainConfig().teacher_budget)  # that the default search's sees
MARGIN = 0.1  # beyond the front's ends, so that they count too
Array = np.ndarray[Any, Any]
Fronts = dict[tuple[str, int, int], list[Retrained]]  # by way, seed and minutes
Points = dict[tuple[str, int, int], Array]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="fashion-mnist:ROOT or cifar10:ROOT")
    parser.add_argument("--ways", nargs="+", choices=(OURS, *OPTUNA, SHORT), default=[OURS, *OPTUNA, SHORT])
    parser.add_argument("--minutes", type=int, default=60, help="for each way")
    parser.add_argument("--images", type=int, default=30_000, help="that a training from nothing sees")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the searches")
    parser.add_argument("--folder", type=Path, default=Path("runs/search-efficiency"))
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    print(json.dumps(run(arguments)))


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    retraining = Retraining(_config(arguments, "retraining", 0), arguments.folder / "retrained")
    retraining.session  # noqa: B018  calibrates, which no way is to pay for
    minutes = sorted({*(m for m in MINUTES if m < arguments.minutes), arguments.minutes})
    fronts: Fronts = {}
    finished: dict[str, list[int]] = {}
    for way, seed in itertools.product(arguments.ways, arguments.seeds):
        stored, started = _searched(arguments, way, seed)
        finished.setdefault(way, []).append(stored.finished())
        for m in minutes:
            fronts[way, seed, m] = _front(stored, started + datetime.timedelta(minutes=m), retraining)
    if not any(fronts.values()):
        raise SystemExit(f"no candidate was finished in {arguments.minutes} minutes; give more")
    points = _measured(fronts)
    reference = _reference(np.concatenate([of for (*_, m), of in points.items() if m == arguments.minutes]))
    whole = hypervolume(np.concatenate(list(points.values())), reference)
    shares = {key: hypervolume(of, reference) / whole for key, of in points.items()}
    return {
        "benchmark": "search efficiency",
        "data": arguments.data,
        "images": arguments.images,
        "seeds": arguments.seeds,
        "finished": finished,
        "reference": dict(zip(("latency_ms", "error"), reference.tolist(), strict=True)),
        "hypervolume_share": {
            way: {m: _over_seeds([round(shares[way, seed, m], 4) for seed in arguments.seeds]) for m in minutes}
            for way in arguments.ways
        },
        "members": {
            way: {m: _over_seeds([len(points[way, seed, m]) for seed in arguments.seeds]) for m in minutes}
            for way in arguments.ways
        },
        **_compared(arguments.ways, arguments.seeds, minutes, shares, points),
        "retraining_seconds": round(sum({r.path: r.seconds for of in fronts.values() for r in of}.values())),
        "fronts": [{"way": w, "seed": s, "minutes": m, "members": of.tolist()} for (w, s, m), of in points.items()],
    }


def _config(arguments: argparse.Namespace, way: str, seed: int) -> StudyConfig:
    """The default search for as long as the time lasts, or what differs from it."""
    train: dict[str, Any] = {"final_budget": 0.0}
    values: dict[str, Any] = {"trials": ENDLESS, "timeout": 60.0 * arguments.minutes}
    if way != OURS:
        values["latency_first"] = False
    if way not in (OURS, SHORT):
        train |= {"samples": arguments.images, "teacher_budget": TEACHER_IMAGES / arguments.images}
    if way in (*OPTUNA, SHORT):
        values["sampler"] = way.partition("-")[0]
    out = arguments.folder / (way if way == "retraining" else f"{way}-{seed}")
    where = {"study": way, "out": str(out), "data": arguments.data, "seed": seed}
    return make_config(None, {**values, **where, "audit_trials": 0, "train": train})


def _searched(arguments: argparse.Namespace, way: str, seed: int) -> tuple[StoredStudy, datetime.datetime]:
    """A way's study with its time spent, and when it was started."""
    config = _config(arguments, way, seed)
    note = config.folder / "spent.json"
    if not note.exists() or json.loads(note.read_text())["minutes"] < arguments.minutes:
        shutil.rmtree(config.folder, ignore_errors=True)
        log(f"searching: {way}, seed {seed}")
        started = time.time()
        run_search(config, Log())
        note.write_text(json.dumps({"started": started, "minutes": arguments.minutes}))
    started = json.loads(note.read_text())["started"]
    return locate(str(config.folder), None), datetime.datetime.fromtimestamp(started)


def _front(stored: StoredStudy, until: datetime.datetime, retraining: Retraining) -> list[Retrained]:
    """The front at a time, trained again."""
    trials = [t for t in stored.trials() if t.datetime_complete is not None and t.datetime_complete <= until]
    members = [retraining.of(stored, trial) for trial in stored.front(trials)]
    return [member for member in members if member is not None]


def _measured(fronts: Fronts) -> Points:
    """Each front as `[members, 2]`: latency in ms, all measured in one campaign, and error on the test split."""
    members = {r.path: r for of in fronts.values() for r in of}
    found = LocalTarget().measure_many(list(members), SECONDS)
    points = {
        path: (measured.p50_ms, 1 - member.test_accuracy)
        for (path, member), measured in zip(members.items(), found, strict=True)
    }
    return {key: np.array([points[r.path] for r in of]).reshape(-1, 2) for key, of in fronts.items()}


def _reference(points: Array) -> Array:
    """`[2]`: a little beyond the worst of the points that none dominates."""
    best = points[front(points)]
    worst: Array = (1 + MARGIN) * best.max(axis=0)
    return worst


def _over_seeds(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "seeds": values}


def _compared(
    ways: list[str], seeds: list[int], minutes: list[int], shares: dict[tuple[str, int, int], float], points: Points
) -> dict[str, Any]:
    """After how many minutes ours is where the best of Optuna's is at the end, and what it dominates at equal time.

    The last is Zitzler and Thiele's coverage (1999): how much of a front has a member of ours that is no worse.
    """
    others = [way for way in ways if way != OURS]
    if OURS not in ways or not others:
        return {}
    reached = []
    for seed in seeds:
        best = max((shares[way, seed, minutes[-1]] for way in others if way in OPTUNA), default=np.inf)
        reached.append(min((m for m in minutes if shares[OURS, seed, m] >= best), default=None))
    return {
        "minutes_to_the_best_of_optuna": dict(zip(seeds, reached, strict=True)),
        "covers": {
            way: {m: [_coverage(points[OURS, seed, m], points[way, seed, m]) for seed in seeds] for m in minutes}
            for way in others
        },
    }


def _coverage(ours: Array, theirs: Array) -> float | None:
    """None where there is nothing to cover."""
    if not len(theirs):
        return None
    return round(float((ours[:, None] <= theirs[None]).all(axis=2).any(axis=0).mean()), 3)


if __name__ == "__main__":
    main()
