"""How soon the default search finds good trade-offs, beside Optuna's samplers with each candidate trained in full.

    python benchmarks/search_efficiency.py --data fashion-mnist:ROOT [--minutes 60] [--folder F] [--json]

Each way gets the same wall-clock on the same machine, latency profile and search space, all techniques included:
`nas-edge` is the default search; the others are Optuna's samplers as this project sets them up, and train every
candidate from nothing on as many images (`--images`). The front that each had after some minutes is then trained again,
all in the same way and with the same teacher, tested on the test split, and measured in one campaign. Printed is the
share of the hypervolume of all fronts together. What is done is kept in the folder; a search that was interrupted
starts anew, for its time counts. Prints one JSON object. Keep the machine idle meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.support.log import Log, log
from benchmarks.support.retraining import Retrained, Retraining
from nas_edge.config import StudyConfig, make_config
from nas_edge.engine.run import run_search
from nas_edge.report.baseline import hypervolume_shares
from nas_edge.store.locate import locate
from nas_edge.store.study import StoredStudy
from nas_edge.targets.local import LocalTarget

OURS = "nas-edge"
OPTUNA = ("random", "tpe", "nsga2")
MINUTES = (2, 5, 10, 15, 20, 30, 45, 60)
SECONDS = 2.0  # to measure one file
ENDLESS = 1_000_000
TEACHER_BUDGET = 3.0  # of the other ways, in units of their candidates' trainings
Fronts = dict[str, dict[int, list[Retrained]]]  # of each way, after so many minutes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="fashion-mnist:ROOT or cifar10:ROOT")
    parser.add_argument("--ways", nargs="+", choices=(OURS, *OPTUNA), default=[OURS, *OPTUNA])
    parser.add_argument("--minutes", type=int, default=60, help="for each way")
    parser.add_argument("--images", type=int, default=30_000, help="that a training from nothing sees")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/search-efficiency"))
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    print(json.dumps(run(arguments)))


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    retraining = Retraining(_config(arguments, "retraining"), arguments.folder / "retrained")
    retraining.session  # noqa: B018  calibrates, which no way is to pay for
    minutes = [m for m in MINUTES if m <= arguments.minutes]
    fronts: Fronts = {}
    counts = {}
    for way in arguments.ways:
        stored, started = _searched(arguments, way)
        counts[way] = stored.finished()
        fronts[way] = {m: _front(stored, started + datetime.timedelta(minutes=m), retraining) for m in minutes}
    points = _measured(fronts)
    found = iter(hypervolume_shares([front for of_way in points.values() for front in of_way.values()]))
    shares = {way: {m: round(next(found), 4) for m in of_way} for way, of_way in points.items()}
    return {
        "benchmark": "search efficiency",
        "data": arguments.data,
        "seed": arguments.seed,
        "images": arguments.images,
        "finished": counts,
        "hypervolume_share": shares,
        "fronts": {way: {m: front.tolist() for m, front in of_way.items()} for way, of_way in points.items()},
        **_compared(shares, points),
    }


def _config(arguments: argparse.Namespace, name: str) -> StudyConfig:
    """The default search for as long as the time lasts, or what differs from it."""
    train: dict[str, Any] = {"final_budget": 0.0}
    values: dict[str, Any] = {"trials": ENDLESS, "timeout": 60.0 * arguments.minutes}
    if name != OURS:
        train |= {"samples": arguments.images, "teacher_budget": TEACHER_BUDGET}
        values["latency_first"] = False
    if name in OPTUNA:
        values["sampler"] = name
    where = {"study": name, "out": str(arguments.folder / name), "data": arguments.data, "seed": arguments.seed}
    return make_config(None, {**values, **where, "audit_trials": 0, "train": train})


def _searched(arguments: argparse.Namespace, way: str) -> tuple[StoredStudy, datetime.datetime]:
    """A way's study with its time spent, and when it was started."""
    folder = arguments.folder / way
    note = folder / "started.json"
    if not note.exists():
        shutil.rmtree(folder, ignore_errors=True)
        log(f"searching: {way}")
        started = time.time()
        run_search(_config(arguments, way), Log())
        note.write_text(json.dumps(started))
    return locate(str(folder), None), datetime.datetime.fromtimestamp(json.loads(note.read_text()))


def _front(stored: StoredStudy, until: datetime.datetime, retraining: Retraining) -> list[Retrained]:
    """The front at a time, trained again."""
    trials = [t for t in stored.trials() if t.datetime_complete is not None and t.datetime_complete <= until]
    members = [retraining.of(stored, trial) for trial in stored.front(trials)]
    return [member for member in members if member is not None]


def _measured(fronts: Fronts) -> dict[str, dict[int, np.ndarray[Any, Any]]]:
    """Each front as `[members, 2]`: latency in ms, all measured in one campaign, and error on the test split."""
    members = {r.path: r for of_way in fronts.values() for front in of_way.values() for r in front}
    found = LocalTarget().measure_many(list(members), SECONDS)
    points = {
        path: (measured.p50_ms, 1 - member.test_accuracy)
        for (path, member), measured in zip(members.items(), found, strict=True)
    }
    return {
        way: {m: np.array([points[r.path] for r in front]).reshape(-1, 2) for m, front in of_way.items()}
        for way, of_way in fronts.items()
    }


def _compared(
    shares: dict[str, dict[int, float]], points: dict[str, dict[int, np.ndarray[Any, Any]]]
) -> dict[str, Any]:
    """After how many minutes ours is where the best of the others is at the end, and what it dominates at equal time.

    The last is Zitzler and Thiele's coverage (1999): how much of a front has a member of ours that is no worse.
    """
    others = [way for way in shares if way != OURS]
    if OURS not in shares or not others:
        return {}
    last = max(shares[OURS])
    best = max(shares[way][last] for way in others)
    reached = [m for m, share in shares[OURS].items() if share >= best]
    return {
        "minutes_to_the_best_of_optuna": min(reached, default=None),
        "covers": {
            way: {m: _coverage(points[OURS][m], front) for m, front in points[way].items() if len(front)}
            for way in others
        },
    }


def _coverage(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    return round(float((ours[:, None] <= theirs[None]).all(axis=2).any(axis=0).mean()), 3)


if __name__ == "__main__":
    main()
