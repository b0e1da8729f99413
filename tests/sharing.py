"""Tests that run side by side in processes of pytest-xdist, and those that need the machine for themselves."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sharing(*, alone: bool) -> Iterator[None]:
    """Hold the machine with others, or alone, which waits until they are done. Without pytest-xdist there are none.

    One who waits to be alone holds the gate meanwhile, so that the others' next tests do not push in.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        yield
        return
    path = Path(tempfile.gettempdir()) / f"nas_edge_tests_{run}"
    with path.with_suffix(".gate").open("w") as gate, path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
