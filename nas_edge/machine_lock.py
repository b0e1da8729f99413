"""Keeps the processes of one user on one machine from working while one of them measures a latency.

A lock of readers and writers: those that work share it, and whoever measures has it alone. Work gives way after each
training step, so that a measurement starts within moments and the siblings go on after it. The system releases what a
killed process held; one that hangs is waited for only so long.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

WAIT_S = 60.0  # for others to stop working, before a latency is measured beside them
PATIENCE_S = 600.0  # of those that work, for the measurements of others
POLL_S = 0.01
# Of this machine alone, where home and temporary folders may be mounted or moved.
SHARED_MEMORY, OTHERWISE = Path("/dev/shm"), Path("/tmp")

_depth = 0  # of `working`, in this process


@contextlib.contextmanager
def working() -> Iterator[None]:
    """Load the cores: begins when nobody measures, and no measurement begins unless this gives way or ends."""
    global _depth
    if not _depth:
        _enter(time.monotonic() + PATIENCE_S)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _release(_work())


def give_way() -> None:
    """Let a measurement go first that waits for the machine. Takes microseconds where none does."""
    if not _depth:
        return
    if _try(_gate(), fcntl.LOCK_SH):
        _release(_gate())
    else:
        _release(_work())
        _enter(time.monotonic() + PATIENCE_S)


@contextlib.contextmanager
def measuring() -> Iterator[bool]:
    """Have the machine alone; yields whether that is so, or others did not stop in time. Work around it pauses."""
    _release(_work())
    end = time.monotonic() + WAIT_S
    alone = _acquire(_gate(), fcntl.LOCK_EX, end) and _acquire(_work(), fcntl.LOCK_EX, end)
    try:
        yield alone
    finally:
        _release(_work())
        _release(_gate())
        if _depth:
            _enter(time.monotonic() + PATIENCE_S)


def _enter(end: float) -> None:
    """Whoever measures next holds the gate, so that work that begins meanwhile cannot keep it waiting."""
    _acquire(_gate(), fcntl.LOCK_SH, end)
    _acquire(_work(), fcntl.LOCK_SH, end)
    _release(_gate())


def _acquire(file: int, kind: int, end: float) -> bool:
    while not _try(file, kind):
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_S)
    return True


def _try(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _release(file: int) -> None:
    fcntl.flock(file, fcntl.LOCK_UN)


def _gate() -> int:
    return _opened("gate", os.getpid())


def _work() -> int:
    return _opened("work", os.getpid())


@cache
def _opened(name: str, process: int) -> int:
    """A file to lock: one of each process, for a fork would share its parent's lock."""
    flags, file = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, f"nas_edge-{os.getuid()}.{name}"
    with contextlib.suppress(OSError):
        return os.open(SHARED_MEMORY / file, flags, 0o600)
    return os.open(OTHERWISE / file, flags, 0o600)
