"""A worker that dies costs the trial that it had in hand: real processes, which crash, exit, hang and leak."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

from nas_edge.engine import limits as limits_module
from nas_edge.engine.limits import limits, machine_memory
from nas_edge.engine.supervisor import Supervisor, memory_of
from nas_edge.plugins import Registry
from nas_edge.store.locate import locate
from nas_edge.store.study import StoredStudy

from ..cli.command import install
from ..studies import NAS_EDGE, assert_whole, environment, study_file, tiny_config, tiny_values

WORKER = """
import json, os, sys, time
from nas_edge.engine.supervised import attach, in_hand, lost_of, tell_end
attach()
log = open(sys.argv[1], "a")
print(os.getpid(), json.dumps(lost_of("s", final=False)), file=log, flush=True)
starts = sum(1 for line in open(sys.argv[1]))
def work(trial, seconds=60.0, memory=10**12):
    return in_hand("s", trial, seconds, memory)
"""
END = "tell_end()\nsys.exit(7)\n"


def supervisor(tmp_path: Path, *lines: str) -> Supervisor:
    script = tmp_path / "worker.py"
    script.write_text(WORKER + "\n".join(lines))
    return Supervisor((sys.executable, str(script), str(tmp_path / "log")))


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def told(tmp_path: Path) -> list[list[object] | None]:
    """What each of the workers heard of the one before it."""
    return [json.loads(line.partition(" ")[2]) for line in (tmp_path / "log").read_text().splitlines()]


def test_a_worker_that_ends_of_itself_gives_its_exit_status(tmp_path: Path) -> None:
    assert supervisor(tmp_path, "with work(0): pass", END).run() == 7
    assert told(tmp_path) == [None]


@pytest.mark.parametrize(
    ("death", "why"),
    [
        ("os._exit(3)", "its process ended with exit status 3"),
        ("os._exit(0)", "its process ended with exit status 0"),
        ("import ctypes; ctypes.string_at(0)", "its process died of SIGSEGV"),
        ("os.abort()", "its process died of SIGABRT"),
        ("os.kill(os.getpid(), 9)", "its process died of SIGKILL"),
    ],
)
def test_a_death_costs_the_trial_in_hand(
    death: str, why: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = ["with work(4): pass", "if starts < 3:", f"    with work(5): {death}", END]
    assert supervisor(tmp_path, *lines).run() == 7
    assert told(tmp_path) == [None, ["s", 5, False, why, True], ["s", 5, False, why, True]]
    assert f"warning: trial 5: {why}; the search goes on" in capfd.readouterr().err


def test_a_trial_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    hang = (
        "        import subprocess",
        "        child = subprocess.Popen(['sleep', '600'])",
        f"        open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))",
        "        time.sleep(600)",
    )
    start = time.monotonic()
    assert supervisor(tmp_path, "if starts == 1:", "    with work(2, seconds=0.5):", *hang, END).run() == 7
    assert time.monotonic() - start < 30
    assert told(tmp_path) == [None, ["s", 2, False, "it took longer than 0.5 s (--trial-timeout)", False]]
    assert is_gone(int((tmp_path / "child").read_text()))


def test_a_trial_that_leaks_is_ended(tmp_path: Path) -> None:
    leak = ("        kept = []", "        while True: kept.append(bytearray(10**7)); time.sleep(0.01)")
    lines = ("if starts == 1:", "    with work(1, memory=200 * 10**6):", *leak, END)
    assert supervisor(tmp_path, *lines).run() == 7
    first, second = told(tmp_path)
    assert first is None and second is not None
    assert "MB of memory, over 200 MB (--trial-memory-mb)" in str(second[3]) and second[4] is False


def test_a_worker_that_dies_again_and_again_is_given_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert supervisor(tmp_path, "os._exit(9)").run() == 1
    assert told(tmp_path) == [None] * 3
    said = capfd.readouterr().err
    why = "its process ended with exit status 9"
    assert "error: one worker after the other died" in said and why in said
    (tmp_path / "log").unlink()
    assert supervisor(tmp_path, "with work(starts): os._exit(9)").run() == 1
    assert told(tmp_path) == [None, *(["s", number, False, why, True] for number in range(1, 15))]


def test_trials_that_come_to_an_end_make_good_for_deaths(tmp_path: Path) -> None:
    lines = ["with work(0): pass", "if starts <= 4: os._exit(1)", END]
    assert supervisor(tmp_path, *lines).run() == 7
    assert len(told(tmp_path)) == 5


def test_stopping_gives_a_worker_time_to_end(tmp_path: Path) -> None:
    lines = ("try:", "    with work(0): time.sleep(600)", "except KeyboardInterrupt:", "    tell_end(); sys.exit(130)")
    one = supervisor(tmp_path, *lines)
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(one.run()))
    thread.start()
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
        time.sleep(0.01)
    one.stop(signal.SIGINT)
    thread.join(timeout=60)
    assert statuses == [130]
    assert told(tmp_path) == [None]


def test_a_worker_ends_with_its_supervisor(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER + "time.sleep(600)")
    command = (sys.executable, str(tmp_path / "worker.py"), str(tmp_path / "log"))
    outer = f"from nas_edge.engine.supervisor import Supervisor; Supervisor({command!r}).run()"
    process = subprocess.Popen((sys.executable, "-c", outer))
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
        time.sleep(0.01)
    process.kill()
    process.wait()
    pid = int((tmp_path / "log").read_text().split()[0])
    start = time.monotonic()
    while not is_gone(pid):
        assert time.monotonic() - start < 30
        time.sleep(0.01)


def test_the_temporary_files_of_a_killed_worker_are_gone(tmp_path: Path) -> None:
    made = "import tempfile; file = tempfile.mkdtemp(); print(os.getpid(), json.dumps(file), file=log, flush=True)"
    assert supervisor(tmp_path, made, "if starts == 1: os.kill(os.getpid(), 9)", END).run() == 7
    folders = [str(text) for text in told(tmp_path) if isinstance(text, str)]
    assert len(set(folders)) == 2 and not any(Path(folder).exists() for folder in folders)
    assert not any(Path(folder).parent.exists() for folder in folders)


def test_memory_counts_what_a_process_started() -> None:
    own = memory_of(os.getpid())
    hungry = "x = bytearray(200 * 10**6); print(flush=True); import time; time.sleep(600)"
    with subprocess.Popen((sys.executable, "-c", hungry), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 195e6 < memory_of(os.getpid()) - own < 400e6
        child.kill()


def test_limits_by_default_and_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, workers=3)
    assert limits(config, []) == {"timeout_s": 6 * 3600.0, "memory_bytes": round(0.9 * machine_memory() / 3)}
    assert limits(config, [], 10.0)["timeout_s"] == 60 * 3600.0
    given = tiny_config(tmp_path, trial_timeout=5.0, trial_memory_mb=700)
    assert limits(given, [], 0.5) == {"timeout_s": 5.0, "memory_bytes": 700_000_000}
    (tmp_path / "memory.max").write_text("1000000\n")
    monkeypatch.setattr(limits_module, "CGROUP_LIMIT", tmp_path / "memory.max")
    assert machine_memory() == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert machine_memory() == psutil.virtual_memory().total


MISBEHAVING = """
import os, pathlib, sys, time
from dataclasses import dataclass
from nas_edge import Technique, hookimpl

@dataclass(frozen=True)
class Config:
    how: str = "well"

class Misbehaves(Technique):
    name = "misbehaves"
    config_type = Config
    def suggest(self, scope):
        return Config(scope.suggest_categorical("how", ["hangs", "exits once", "well"]))
    def objective(self, config, context):  # for a training: not for the calibration's networks
        mark = pathlib.Path(os.environ["MARK"])
        hung = mark.with_name("hung")
        if config.how == "hangs" and os.environ["HANGS_IN"] in " ".join(sys.orig_argv):
            with hung.open("a") as file:
                file.write("x")
            if len(hung.read_text()) <= 3:
                time.sleep(600)
        if config.how == "exits once" and not mark.exists():
            mark.touch()
            os._exit(3)
        return None

@hookimpl
def register_techniques(register):
    register(Misbehaves())
"""


def misbehaving_search(
    tiny_site: Path, tmp_path: Path, seconds: float = 0.0, hangs_in: str = "", how: str | None = None, **changes: Any
) -> tuple[StoredStudy, str]:
    """A search with a plugin that hangs and exits, whose trials take some seconds more, and what it said.

    It hangs three times, and only in processes with `hangs_in` in their command lines; `how` is what it does in every
    trial.
    """
    site = tmp_path / "site"
    site.mkdir()
    install(site, "misbehaving", MISBEHAVING)
    out = tmp_path / "study"
    given = {"trials": 4, "trial_timeout": 5.0, "calibration_seconds": 5.0, **changes}
    values = tiny_values(out, techniques=["misbehaves"], **given)
    fixed = {"misbehaves.enabled": True} | ({} if how is None else {"misbehaves.how": how})
    file = study_file(tmp_path / "study.toml", {**values, "set": fixed})
    variables = environment(
        tiny_site, MARK=str(tmp_path / "mark"), HANGS_IN=hangs_in, NAS_EDGE_LOAD_PLUGINS="tiny,misbehaving"
    )
    variables["TINY_SECONDS"] = str(seconds)
    variables["PYTHONPATH"] += os.pathsep + str(site)
    done = subprocess.run((*NAS_EDGE, "search", file), env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    stored = locate(str(out), None)
    assert_whole(stored, given["trials"], tmp_path)
    return stored, done.stderr


def test_a_search_survives_a_plugin_that_misbehaves(tiny: Registry, tiny_site: Path, tmp_path: Path) -> None:
    stored, said = misbehaving_search(tiny_site, tmp_path)
    hung, exited = stored.trials(TrialState.FAIL)
    assert hung.params["misbehaves.how"] == "hangs" and "interrupted" not in hung.user_attrs
    assert hung.user_attrs["why"] == "it took longer than 5 s (--trial-timeout)"
    assert exited.params["misbehaves.how"] == "exits once"
    assert exited.user_attrs["why"] == "its process ended with exit status 3"
    retries = {t.user_attrs["retry_of"]: t for t in stored.evaluated() if "retry_of" in t.user_attrs}
    assert set(retries) == {exited.number} and retries[exited.number].params == exited.params
    assert "warning: trial 0: it took longer than 5 s" in said


def test_a_trial_over_its_limit_is_not_tried_again_by_a_sibling(
    tiny: Registry, tiny_site: Path, tmp_path: Path
) -> None:
    """Which sees before the replacement of the worker that the trial's process is dead.

    The first worker does not hang: killed, it would take the other along, whose trial then comes again, and rightly.
    """
    stored, _ = misbehaving_search(
        tiny_site, tmp_path, 0.6, "nas_edge.engine.workers", "hangs", workers=2, trials=8, trial_timeout=8.0
    )
    hung = stored.trials(TrialState.FAIL)
    assert hung and {t.user_attrs["why"] for t in hung} == {"it took longer than 8 s (--trial-timeout)"}
    tried_again = {t.user_attrs.get("retry_of") for t in stored.trials()}
    assert not tried_again & {t.number for t in hung}
