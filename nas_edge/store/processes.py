"""The processes that work on a study: which of them are gone, and one at a time where it must be so."""

from __future__ import annotations

import fcntl
import functools
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

from optuna.trial import FrozenTrial

from nas_edge.store.failures import is_failure

WORKER = "worker"  # the user attribute of a trial that holds its `worker_mark`
UNMARKED_GRACE_S = 10.0
HEARTBEAT_S, GRACE_S = 20.0, 120.0  # how often a worker shows that it lives, and the silence after which it is dead


class Clock(Protocol):
    """What a storage knows of its workers. Optuna offers the rest for `Study.optimize` alone."""

    def record_heartbeat(self, trial_id: int) -> None: ...

    def silences(self, trial_ids: Sequence[int]) -> dict[int, float]: ...

    def remove_session(self) -> None: ...


def worker_mark() -> dict[str, Any]:
    """Who runs a trial: enough to tell later whether that process still lives."""
    return {**_machine(), "pid": os.getpid(), "started": _process_start(os.getpid())}


def is_elsewhere(trial: FrozenTrial) -> bool:
    """Whether a process of another machine, or of another container, runs a trial."""
    mark = trial.user_attrs.get(WORKER)
    return isinstance(mark, dict) and any(mark.get(key) != value for key, value in _machine().items())


def is_dead(trial: FrozenTrial) -> bool:
    """Whether the process that runs a trial is gone. Those of other machines are known by their heartbeats alone."""
    mark = trial.user_attrs.get(WORKER)
    if not isinstance(mark, dict):  # taken from the queue by another machine that has not marked it yet
        started = trial.datetime_start or datetime.now()
        return (datetime.now() - started).total_seconds() > UNMARKED_GRACE_S
    if is_elsewhere(trial):
        return False
    return _process_start(int(mark["pid"])) != mark.get("started")


@contextmanager
def heartbeat(storage: Clock, trial_id: int) -> Iterator[None]:
    """Show the other machines that a trial's worker lives. A database that is busy or gone is asked again."""
    ended = Event()

    def beat() -> None:
        while True:
            try:
                storage.record_heartbeat(trial_id)
            except Exception as error:
                if not is_failure(error):
                    raise
            if ended.wait(HEARTBEAT_S):
                storage.remove_session()
                return

    thread = Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def silent(storage: Clock, trial_ids: Sequence[int]) -> set[int]:
    """Those of the running trials whose heartbeats have ceased, by the database's clock."""
    if not trial_ids:
        return set()
    heard = storage.silences(trial_ids)
    for trial_id in set(trial_ids) - set(heard):  # its worker may have died before the first: it has from now on
        storage.record_heartbeat(trial_id)
    return {trial_id for trial_id, seconds in heard.items() if seconds > GRACE_S}


@contextmanager
def exclusively(file: Path) -> Iterator[None]:
    """Hold a lock among the processes of this machine. The system releases that of a killed process."""
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@functools.cache
def _machine() -> dict[str, str]:
    """Where process numbers mean the same. Machines may share a name, and containers a name and an identity."""
    identity, space = Path("/etc/machine-id"), Path("/proc/self/ns/pid")
    parts = (
        identity.read_text()[:8] if identity.is_file() else "",
        str(space.readlink()) if space.is_symlink() else "",
    )
    return {"host": socket.gethostname(), "machine": " ".join(parts)}


def _process_start(pid: int) -> str | None:
    """The start time of a process in clock ticks since boot; None where it is gone. Tells a reused pid apart."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
