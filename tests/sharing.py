"""Tests that run side by side in processes of pytest-xdist, and those that need the machine for themselves."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sharing(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold the machine with all who share the folder, or alone, which waits until they are done.

    One who waits to be alone holds the gate meanwhile, so that the others' next tests do not push in.
    """
    with (folder / "gate").open("w") as gate, (folder / "lock").open("w") as lock:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
