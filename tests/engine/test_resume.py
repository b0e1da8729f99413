"""A search that is killed or interrupted goes on from where it was: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState

from nas_edge.cli import main
from nas_edge.errors import StorageError, UserError
from nas_edge.plugins import Registry
from nas_edge.store.locate import locate
from nas_edge.store.study import StoredStudy

from ..studies import (
    NAS_EDGE,
    assert_whole,
    environment,
    found,
    heed_interrupts,
    keep_profile,
    search,
    study_file,
    tiny_config,
    tiny_values,
)

PATIENCE_S = 90.0
TRIALS = 4
KILLED = {"techniques": ["distill", "quantize"], "trials": TRIALS, "train": {"teacher_budget": 20.0}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, str, list[float]]]]:
    """What the search finds when nobody disturbs it; made by the first test that asks."""
    return {}


def start(site: Path, *arguments: str, seconds_a_trial: float = 0.3) -> subprocess.Popen[str]:
    values = environment(site, TINY_SECONDS=str(seconds_a_trial))
    return subprocess.Popen(
        (*NAS_EDGE, *arguments), stderr=subprocess.PIPE, text=True, env=values, preexec_fn=heed_interrupts
    )


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return
    raise AssertionError(f"the search ended without {text!r}: {''.join(lines)}")


def wait_for(happened: Callable[[], bool]) -> None:
    start = time.monotonic()
    while not happened():
        assert time.monotonic() - start < PATIENCE_S
        time.sleep(0.01)


def stored_at(folder: Path) -> StoredStudy | None:
    try:
        return locate(str(folder), None) if (folder / "study.db").exists() else None
    except (StorageError, UserError):  # not yet made
        return None


def kill_at_database(process: subprocess.Popen[str], out: Path) -> None:
    wait_for((out / "study.db").exists)


def kill_at_teacher(process: subprocess.Popen[str], out: Path) -> None:
    read_until(process, "Training the teacher")
    time.sleep(0.05)


def kill_in_a_trial(process: subprocess.Popen[str], out: Path) -> None:
    read_until(process, "trial 1:")
    stored = stored_at(out)
    assert stored is not None
    wait_for(lambda: bool(stored.trials(TrialState.RUNNING)))


def kill_at_storing(process: subprocess.Popen[str], out: Path) -> None:
    read_until(process, "trial 0:")
    files = len(list((out / "artifacts").iterdir()))
    wait_for(lambda: len(list((out / "artifacts").iterdir())) > files)


def kill_at_the_end(process: subprocess.Popen[str], out: Path) -> None:
    read_until(process, "Testing trial")


MOMENTS = [
    kill_at_database,
    kill_in_a_trial,
    kill_at_storing,
    pytest.param(kill_at_teacher, marks=pytest.mark.long),
    pytest.param(kill_at_the_end, marks=pytest.mark.long),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda f: str(f.__name__))
def test_a_killed_search_goes_on(
    moment: Callable[[subprocess.Popen[str], Path], None],
    whole: dict[str, list[tuple[str, str, list[float]]]],
    tiny: Registry,
    tiny_site: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "study"
    keep_profile(tiny_config(out, **KILLED), tiny)
    command = ["search", study_file(tmp_path / "study.toml", tiny_values(out, **KILLED))]
    process = start(tiny_site, *command)
    moment(process, out)
    process.kill()
    process.communicate()

    before = stored_at(out)
    kept = {} if before is None else {t.number: t for t in before.trials(TrialState.COMPLETE)}
    assert main(command) == 0
    stored = locate(str(out), None)
    complete = {t.number: t for t in assert_whole(stored, TRIALS, tmp_path)}
    for number, trial in kept.items():
        assert complete[number].user_attrs == trial.user_attrs
        assert complete[number].values == trial.values
        assert complete[number].datetime_complete == trial.datetime_complete
    if "found" not in whole:
        whole["found"] = found(search(tiny_config(tmp_path / "whole", **KILLED), tiny))
    assert found(stored) == whole["found"]


def test_ctrl_c_leaves_the_study_whole(tiny: Registry, tiny_site: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    keep_profile(tiny_config(out, trials=4), tiny)
    process = start(tiny_site, "search", study_file(tmp_path / "study.toml", tiny_values(out, trials=4)))
    read_until(process, "trial 0:")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert f"nas-edge resume {out}" in said and "Traceback" not in said

    stored = locate(str(out), None)
    assert len(stored.trials(TrialState.COMPLETE)) == 1
    assert not stored.trials(TrialState.RUNNING)
    assert main(["resume", str(out)]) == 0
    assert_whole(stored, 4, tmp_path)
    assert found(stored) == found(search(tiny_config(tmp_path / "whole", trials=4), tiny))


@pytest.mark.long  # benchmarks/chaos.py does it sixty times over
def test_two_workers_finish_what_two_killed_ones_began(tiny: Registry, tiny_site: Path, tmp_path: Path) -> None:
    out, trials = tmp_path / "study", 6
    keep_profile(tiny_config(out, trials=trials), tiny)
    command = ["search", study_file(tmp_path / "study.toml", tiny_values(out, trials=trials)), "--workers", "2"]
    process = start(tiny_site, *command, seconds_a_trial=0.6)
    read_until(process, "Searching")
    stored = locate(str(out), None)

    def workers() -> set[int]:
        return {t.user_attrs["worker"]["pid"] for t in stored.trials() if "worker" in t.user_attrs}

    wait_for(lambda: len(workers()) == 2)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers()))  # the second one ends by itself
    assert len(stored.trials(TrialState.COMPLETE)) < trials

    with start(tiny_site, *command, seconds_a_trial=0.2) as again:
        _, said = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, said
    assert_whole(stored, trials, tmp_path)


def test_an_interrupt_ends_all_workers(tiny: Registry, tiny_site: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    keep_profile(tiny_config(out, trials=50), tiny)
    file = study_file(tmp_path / "study.toml", tiny_values(out, trials=50))
    process = start(tiny_site, "search", file, "--workers", "2", seconds_a_trial=1.0)
    read_until(process, "trial 0:")
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and "Traceback" not in said
    assert not locate(str(out), None).trials(TrialState.RUNNING)
