"""The processes that work on a study: which of them are gone, and one at a time where it must be so."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

WORKER = "worker"  # the user attribute of a trial that holds its `worker_mark`
UNMARKED_GRACE_S = 10.0


def worker_mark() -> dict[str, Any]:
    """Who runs a trial: enough to tell later whether that process still lives."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _process_start(os.getpid())}


def is_dead(trial: FrozenTrial) -> bool:
    """Whether the process that runs a trial is gone. Processes on other machines are taken to live."""
    mark = trial.user_attrs.get(WORKER)
    if not isinstance(mark, dict):  # taken from the queue by another machine that has not marked it yet
        started = trial.datetime_start or datetime.now()
        return (datetime.now() - started).total_seconds() > UNMARKED_GRACE_S
    if mark.get("host") != socket.gethostname():
        return False
    return _process_start(int(mark["pid"])) != mark.get("started")


@contextmanager
def exclusively(file: Path) -> Iterator[None]:
    """Hold a lock among the processes of this machine. The system releases that of a killed process."""
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _process_start(pid: int) -> str | None:
    """The start time of a process in clock ticks since boot; None where it is gone. Tells a reused pid apart."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
