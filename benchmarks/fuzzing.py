"""Brings damaged files and messages in by the doors of the user, and looks how each of them ends.

    python benchmarks/fuzzing.py [--cases 2000] [--seed 0] [--kind "ONNX files"] [--folder KEPT] [--json]

Study files, ONNX files, profiles, recipes, plugin configs, data sets and agent messages are made of sound ones by
hypothesis, in equal parts: cut off, with flipped bytes, other types, deep nesting, huge numbers, NaN, odd Unicode,
names that lead elsewhere, keys that come twice, cycles, foreign domains, weights in other files, and so on. Each goes
to the command line, or to an agent, in a process of its own which is replaced where it dies or hangs. It must be
refused by one line with exit status 2, within 5 s, or be sound after all; a study that lies beside it stays as it is.
Each kind of fault is written to KEPT/faults with its least input. Prints one JSON object; the exit status is 1 where
there was a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky, HypothesisWarning

from benchmarks.support.log import log
from tests.fuzz.cases import KINDS, Case
from tests.fuzz.doors import ACCEPTED, REFUSED, Outcome

ROOT = Path(__file__).parents[1]
HANG_S = 30.0  # where a process is given up: far beyond what a case may take
START_S = 300.0
ROUNDS = 50  # of hypothesis, each of which ends with the first fault that is new


class Fault(Exception):
    """A case that ended as none may."""


class Worker:
    """A process for cases; another one after it died or hung."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def enter(self, case: Case) -> Outcome:
        process = self._started()
        assert process.stdin is not None
        start = time.monotonic()
        try:
            process.stdin.write(json.dumps(case.to_json()) + "\n")
            process.stdin.flush()
            answer = self._answer(HANG_S)
        except BrokenPipeError:
            answer = ""
        if answer:
            return Outcome(**json.loads(answer))
        seconds = time.monotonic() - start
        hung = answer is None
        self.close()
        return Outcome(-1, "", seconds, "it hung" if hung else f"the process died ({process.returncode})")

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            places = {"XDG_CACHE_HOME": str(self._folder / "cache"), "XDG_CONFIG_HOME": str(self._folder / "cache")}
            paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker"],
                cwd=self._folder,
                env={**os.environ, **places, "PYTHONPATH": paths, "NAS_EDGE_LOAD_PLUGINS": "", "COLUMNS": "200"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(self._folder / "worker.log").open("a"),
                text=True,
                bufsize=1,
            )
            if self._answer(START_S) != "ready\n":
                raise RuntimeError(f"the worker does not start; see {self._folder / 'worker.log'}")
        return self._process

    def _answer(self, seconds: float) -> str | None:
        """The next line; empty where the process ended, None where there was none in time."""
        assert self._process is not None and self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return None
        return self._process.stdout.readline()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
            self._process = None


@dataclass
class Tally:
    """The verdicts of the cases of one kind, the least input of each fault, and the longest refusal."""

    verdicts: Counter[str] = field(default_factory=Counter)
    least: dict[str, Case] = field(default_factory=dict)
    slowest_s: float = 0.0


def fuzz(kind: str, cases: int, first_seed: int, worker: Worker) -> Tally:
    """Bring in so many cases of one kind."""
    tally = Tally()
    for number in range(ROUNDS):
        if (left := cases - tally.verdicts.total()) > 0:
            _round(kind, left, first_seed * ROUNDS + number, worker, tally)
    return tally


def _round(kind: str, cases: int, first_seed: int, worker: Worker, tally: Tally) -> None:
    """Cases up to the first fault that is new, and then smaller ones of it."""
    found: dict[str, Case] = {}

    @seed(first_seed)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(case=KINDS[kind])
    def each(case: Case) -> None:
        outcome = worker.enter(case)
        if not found:
            tally.verdicts[outcome.verdict] += 1
            if outcome.status == 2:
                tally.slowest_s = max(tally.slowest_s, outcome.seconds)
        if outcome.fault and outcome.fault not in tally.least and (not found or outcome.fault in found):
            found[outcome.fault] = case
            raise Fault(outcome.fault)

    try:
        each()
    except (Fault, Flaky):  # what comes up once is told all the same
        tally.least |= found
        log(f"{kind}: {', '.join(found)}")


def keep(folder: Path, kind: str, fault: str, case: Case) -> str:
    """Write the least input of a fault; where it is."""
    place = folder / "faults" / f"{kind} {zlib.crc32(fault.encode()):08x}".replace(" ", "_")
    place.mkdir(parents=True, exist_ok=True)
    for name, content in case.files.items():
        (place / name).write_bytes(content)
    (place / "fault.txt").write_text(f"{fault}\n{' '.join(case.arguments)}\n", errors="backslashreplace")
    (place / "case.json").write_text(json.dumps(case.to_json()))
    return str(place)


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    sandbox = folder / "sandbox"
    sandbox.mkdir(parents=True, exist_ok=True)
    worker = Worker(sandbox)
    kinds = [arguments.kind] if arguments.kind else list(KINDS)
    start, found, faults = time.monotonic(), {}, []
    try:
        for place, kind in enumerate(kinds):
            cases = arguments.cases // len(kinds) + (place < arguments.cases % len(kinds))
            began = time.monotonic()
            tally = fuzz(kind, cases, arguments.seed, worker)
            found[kind] = {
                "cases": tally.verdicts.total(),
                REFUSED: tally.verdicts[REFUSED],
                ACCEPTED: tally.verdicts[ACCEPTED],
                "slowest_refusal_s": round(tally.slowest_s, 2),
                "seconds": round(time.monotonic() - began, 1),
            }
            log(f"{kind}: {found[kind]}")
            for fault, case in tally.least.items():
                times = tally.verdicts[fault]
                faults.append({"kind": kind, "fault": fault, "times": times, "case": keep(folder, kind, fault, case)})
    finally:
        worker.close()
    return {
        "benchmark": "fuzzing",
        "seed": arguments.seed,
        "cases": sum(one["cases"] for one in found.values()),
        "seconds": round(time.monotonic() - start, 1),
        "kinds": found,
        "faults": faults,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=list(KINDS))
    parser.add_argument("--folder", type=Path, help="kept; by default a temporary one, kept where there is a fault")
    parser.add_argument("--json", action="store_true", help="the default; there is no other output")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", HypothesisWarning)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="fuzzing_"))
    result = run(arguments, folder)
    if not (result["faults"] or arguments.folder):
        shutil.rmtree(folder)
    print(json.dumps(result))
    sys.exit(1 if result["faults"] else 0)


if __name__ == "__main__":
    main()
