"""The processes that work on a study: which of them are gone, and one at a time where it must be so."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from typing import IO, Any, Protocol

from optuna.trial import FrozenTrial

from nas_edge.store.failures import is_failure
from nas_edge.store.marks import is_running, machine, worker_mark

WORKER = "worker"  # the user attribute of a trial that holds its `worker_mark`
UNMARKED_GRACE_S = 10.0
HEARTBEAT_S, GRACE_S = 20.0, 120.0  # how often a worker shows that it lives, and the silence that is suspected
SUSPECTED_S = 2.5 * HEARTBEAT_S  # after which it is dead
HANDOVER_S = 60.0  # that the replacement of a dead process has to claim its work again


class Clock(Protocol):
    """What a storage knows of its workers. Optuna offers the rest for `Study.optimize` alone."""

    def record_heartbeat(self, trial_id: int) -> None: ...

    def silences(self, trial_ids: Sequence[int]) -> dict[int, float]: ...

    def remove_session(self) -> None: ...


def is_elsewhere(trial: FrozenTrial) -> bool:
    """Whether a process of another machine, or of another container, runs a trial."""
    mark = trial.user_attrs.get(WORKER)
    return isinstance(mark, dict) and any(mark.get(key) != value for key, value in machine().items())


def is_dead(trial: FrozenTrial) -> bool:
    """Whether the process that runs a trial is gone. Those of other machines are known by their heartbeats alone."""
    mark = trial.user_attrs.get(WORKER)
    if not isinstance(mark, dict):  # taken from the queue by another machine that has not marked it yet
        started = trial.datetime_start or datetime.now()
        return (datetime.now() - started).total_seconds() > UNMARKED_GRACE_S
    return not is_elsewhere(trial) and not is_running(mark)


def is_anothers(trial: FrozenTrial) -> bool:
    """Whether another process than this one is about to replace a trial's dead worker: it knows why that died."""
    return _is_replaced_by_another(trial.user_attrs.get(WORKER))


def _is_replaced_by_another(mark: Any) -> bool:
    supervisor = mark.get("supervisor") if isinstance(mark, dict) else None
    return supervisor is not None and supervisor != worker_mark().get("supervisor") and is_running(supervisor)


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


def silent(storage: Clock, trial_ids: Sequence[int], suspected: dict[int, float]) -> set[int]:
    """Those of the running trials whose heartbeats have ceased.

    So says the database's clock; but that may jump, and a database that was gone has heard of nobody. So they are only
    `suspected`, since when is noted there, until those that live must have been heard again.
    """
    heard = storage.silences(trial_ids) if trial_ids else {}
    for trial_id in set(trial_ids) - set(heard):  # its worker may have died before the first: it has from now on
        storage.record_heartbeat(trial_id)
    late = {trial_id for trial_id, seconds in heard.items() if seconds > GRACE_S}
    for trial_id in suspected.keys() - late:
        del suspected[trial_id]
    now = time.monotonic()
    return {trial_id for trial_id in late if now - suspected.setdefault(trial_id, now) >= SUSPECTED_S}


@contextmanager
def exclusively(file: Path) -> Iterator[None]:
    """Hold a lock among the processes of this machine. The system releases that of a killed process."""
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


class Claims:
    """Which process of this machine has which numbered work in hand, one at a time, by files in a folder.

    The system releases what a killed process had. Its file still says whose it was, so that the process that replaces
    it comes first: it knows why that one died.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._left_since: dict[int, float] = {}

    @contextmanager
    def claimed(self, number: int) -> Iterator[bool]:
        """Whether the work is this process's during the block."""
        with (self._folder / f"{number}.lock").open("a+") as file:
            if not _try_lock(file) or self._is_anothers(number, file):
                yield False
                return
            file.truncate(0)
            file.write(json.dumps(worker_mark()))
            file.flush()
            try:
                yield True
            finally:
                file.truncate(0)

    def _is_anothers(self, number: int, file: IO[str]) -> bool:
        """Whether a dead process had the work that is about to be replaced, which is waited for only so long."""
        file.seek(0)
        try:
            mark = json.loads(file.read())
        except ValueError:  # nobody's, or of a process that was killed as it wrote
            return False
        if not _is_replaced_by_another(mark):
            return False
        return time.monotonic() - self._left_since.setdefault(number, time.monotonic()) < HANDOVER_S


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
