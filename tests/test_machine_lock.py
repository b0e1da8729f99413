"""The lock between those that work and whoever measures: real processes, and what they note of their times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nas_edge import machine_lock
from nas_edge.machine_lock import give_way, measuring, working
from nas_edge.targets.campaign import reference_model
from nas_edge.targets.local import LocalTarget

Start = Callable[[str], "subprocess.Popen[str]"]
HEAD = """
import sys, time
from pathlib import Path
from nas_edge import machine_lock
from nas_edge.machine_lock import give_way, measuring, working
machine_lock.SHARED_MEMORY = Path(sys.argv[1])
def say(text):
    print(text, flush=True)
"""
STEPS = """
with working():
    say("at work")
    while True:
        give_way()
        begun = time.monotonic()
        time.sleep(0.01)
        say(f"{begun} {time.monotonic()}")
"""
HANGS = """
with working():
    say("at work")
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(machine_lock, "SHARED_MEMORY", tmp_path)
    machine_lock._opened.cache_clear()
    yield
    for name in ("gate", "work"):
        os.close(machine_lock._opened(name, os.getpid()))
    machine_lock._opened.cache_clear()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that is at work when this returns."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HEAD + code, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "at work\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_no_step_of_another_process_lies_within_a_measurement(start: Start) -> None:
    workers = [start(STEPS), start(STEPS)]
    time.sleep(0.2)
    with measuring() as alone:
        begun = time.monotonic()
        time.sleep(0.3)
        ended = time.monotonic()
    time.sleep(0.3)
    assert alone
    for worker in workers:
        worker.kill()
        steps = [tuple(map(float, line.split())) for line in worker.communicate()[0].splitlines()[:-1]]
        assert steps[0][0] < begun and steps[-1][1] > ended  # it worked before, and went on
        assert not [step for step in steps if step[1] > begun and step[0] < ended]


def test_two_measurements_wait_for_each_other(start: Start) -> None:
    measures = "with measuring() as alone:\n    say(alone)\n    time.sleep(0.5)\n    say(time.monotonic())"
    other = start(f"say('at work')\n{measures}")
    assert other.stdout is not None and other.stdout.readline() == "True\n"
    with working(), measuring() as alone:  # as a candidate that is measured in the middle of its evaluation
        assert alone and float(other.stdout.readline()) < time.monotonic()


def test_work_in_hand_is_shared_again_after_a_measurement_of_ones_own(start: Start) -> None:
    with working():
        with measuring() as alone:
            assert alone
        other = start("say('at work')\nmachine_lock.WAIT_S = 0.2\nwith measuring() as alone:\n    say(alone)")
        assert other.communicate()[0] == "False\n"
    other = start("say('at work')\nwith measuring() as alone:\n    say(alone)")
    assert other.communicate()[0] == "True\n"


def test_one_that_hangs_is_waited_for_so_long_and_one_that_was_killed_not_at_all(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_lock, "WAIT_S", 0.3)
    hanging = start(HANGS)
    begun = time.monotonic()
    with measuring() as alone:
        assert not alone and 0.3 <= time.monotonic() - begun < 5
    hanging.send_signal(signal.SIGKILL)
    hanging.wait()
    with measuring() as alone:
        assert alone


def test_a_latency_beside_work_that_did_not_pause_says_so(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(reference_model())
    monkeypatch.setattr(machine_lock, "WAIT_S", 0.1)
    start(HANGS)
    found = LocalTarget(processes=1).measure(path, 0.2)
    assert found.unstable_because is not None and "did not pause for it; measure again" in found.unstable_because


def test_giving_way_costs_microseconds() -> None:
    with working():
        begun = time.perf_counter()
        for _ in range(1000):
            give_way()
        assert time.perf_counter() - begun < 0.5
