"""How much of the best trade-offs each sampler finds on tables in which every architecture is known.

    python benchmarks/samplers.py --bench tabular_search.py --table T.csv.gz:latency_ms [--seeds 10] [--json]

The measure is the given tool's: the share of the true front's hypervolume after so many evaluations. Ours are
`surrogate`, `evolution`, `reinforce` and `gradient`; Optuna's are as this project sets them up, and those whose names
begin with `optuna-` as Optuna itself does. Each mean comes with the half-width of its 95 % interval over seeds
(Student's t), and each sampler with its lead over `random`, seed by seed. `--proposals` adds what a proposal of the
default sampler costs in a space of 46 decisions with up to 1,000 stored trials. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import optuna

import nas_edge
from nas_edge.report.baseline import half_width

NAMES = ("surrogate", "evolution", "reinforce", "gradient", "random", "nsga2", "tpe", "optuna-nsga2", "optuna-tpe")
EVALUATIONS = (100, 300, 500)
STORED = (100, 300, 1000)
REPEATS = 9  # proposals that are timed
DECISIONS = 46
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True, help="the tool that measures: tabular_search.py")
    parser.add_argument("--table", action="append", default=[], metavar="PATH:COST", help="a table and its cost column")
    parser.add_argument("--samplers", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, nargs="+", default=list(EVALUATIONS))
    parser.add_argument("--proposals", action="store_true", help="time the default sampler's proposals too")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    os.environ |= dict.fromkeys(THREADS, "1")  # for the processes below: on small matrices threads only wait
    found: dict[str, Any] = {"benchmark": "samplers", "seeds": arguments.seeds, "tables": {}}
    with processes(arguments.processes) as pool:
        for table in arguments.table:
            found["tables"][Path(table.rpartition(":")[0]).name] = scores(arguments, table, pool)
    if arguments.proposals:
        with processes(1) as pool:
            found["proposal_ms"] = pool.submit(proposal_ms).result()
    print(json.dumps(found))


def processes(count: int) -> ProcessPoolExecutor:
    """Fresh ones, which heed the environment."""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


def scores(arguments: argparse.Namespace, table: str, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """Of each sampler on one table."""
    path, _, cost = table.rpartition(":")
    seeds, counts = range(arguments.seeds), arguments.evaluations
    jobs = {
        name: [pool.submit(one_search, arguments.bench, path, cost, name, seed, counts) for seed in seeds]
        for name in arguments.samplers
    }
    shares = {name: np.array([job.result() for job in of_seeds]) for name, of_seeds in jobs.items()}
    rows: dict[str, dict[str, Any]] = {}
    for name, share in shares.items():
        print(f"{Path(path).name} {name}: {share.mean(axis=0).round(4).tolist()}", file=sys.stderr, flush=True)
        rows[name] = {str(n): interval(share[:, i]) for i, n in enumerate(counts)}
        if "random" in shares and name != "random":
            lead = share - shares["random"]
            rows[name]["lead_over_random"] = {str(n): interval(lead[:, i]) for i, n in enumerate(counts)}
    return rows


def interval(values: Sequence[float] | np.ndarray[Any, Any]) -> dict[str, float]:
    """The mean, and half of its 95 % interval."""
    return {"mean": round(float(np.mean(values)), 4), "half_width": round(half_width(list(values)) or 0.0, 4)}


def one_search(bench: Path, table: str, cost: str, name: str, seed: int, counts: Sequence[int]) -> list[float]:
    """The share of the hypervolume after each number of evaluations."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tool = _load(bench)
    known = tool.load(table, cost)
    choices = [sorted({arch[i] for arch in known}) for i in range(len(next(iter(known))))]
    best = tool.front(known.values())[-1]
    reference = (best[0] * 1.05, best[1] - (10 if best[1] < 80 else 5))
    whole = tool.hypervolume(known.values(), *reference)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=_sampler(tool, name, seed))
    seen = []
    for _ in range(max(counts)):
        trial = study.ask()
        arch = "".join(trial.suggest_categorical(f"e{i}", options) for i, options in enumerate(choices))
        study.tell(trial, list(known[arch]))
        seen.append(known[arch])
    return [tool.hypervolume(seen[:count], *reference) / whole for count in counts]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tabular_search", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _sampler(tool: ModuleType, name: str, seed: int) -> optuna.samplers.BaseSampler:
    prefix, _, own = name.partition("-")
    made: optuna.samplers.BaseSampler = (
        tool.make(own, seed) if prefix == "optuna" else nas_edge.sampler(name, seed=seed)
    )
    return made


def proposal_ms() -> dict[str, float]:
    """The median time of a proposal of the default sampler, with so many stored trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=nas_edge.sampler("random", seed=0))
    medians = {}
    for count in STORED:
        study.sampler = nas_edge.sampler("random", seed=count)
        study.optimize(_costly_and_good, n_trials=count - len(study.trials))
        study.sampler = nas_edge.sampler("surrogate", seed=0)
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            trial = study.ask()
            values = _costly_and_good(trial)
            seconds.append(time.perf_counter() - start)
            study.tell(trial, values)
        medians[str(count)] = round(1000 * statistics.median(seconds), 1)
    return medians


def _costly_and_good(trial: optuna.Trial) -> tuple[float, float]:
    """46 decisions, half of them numbers, of which each costs and gains something of its own."""
    chosen = [
        trial.suggest_int(f"n{i}", 1, 8) / 8 if i % 2 else trial.suggest_categorical(f"c{i}", [0.0, 0.3, 0.7, 1.0])
        for i in range(DECISIONS)
    ]
    gains = 1 / (1 + np.arange(DECISIONS) % 7)
    return float(1 - np.exp(-gains @ np.array(chosen) / 8)), float(np.sum(chosen))


if __name__ == "__main__":
    main()
