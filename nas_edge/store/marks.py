"""Who runs a trial, so that others can tell whether that process still lives. Nothing heavy is imported here."""

from __future__ import annotations

import functools
import json
import os
import socket
from pathlib import Path
from typing import Any

SUPERVISOR = "NAS_EDGE_SUPERVISOR"  # an environment variable: a `supervisor_mark` as JSON


def worker_mark() -> dict[str, Any]:
    """This process, and the one that replaces it should it die."""
    supervisor = os.environ.get(SUPERVISOR)
    return {**machine(), **_process(), **({"supervisor": json.loads(supervisor)} if supervisor else {})}


def supervisor_mark(slot: str) -> dict[str, Any]:
    """This process as one that replaces dead workers, one after the other in the same `slot`."""
    return {**_process(), "slot": slot}


def is_running(process: dict[str, Any]) -> bool:
    """Whether a process of this machine that was marked still lives."""
    return _process_start(int(process["pid"])) == process.get("started")


@functools.cache
def machine() -> dict[str, str]:
    """Where process numbers mean the same. Machines may share a name, and containers a name and an identity."""
    identity, space = Path("/etc/machine-id"), Path("/proc/self/ns/pid")
    parts = (
        identity.read_text()[:8] if identity.is_file() else "",
        str(space.readlink()) if space.is_symlink() else "",
    )
    return {"host": socket.gethostname(), "machine": " ".join(parts)}


def _process() -> dict[str, Any]:
    return {"pid": os.getpid(), "started": _process_start(os.getpid())}


def _process_start(pid: int) -> str | None:
    """The start time of a process in clock ticks since boot; None where it is gone. Tells a reused pid apart."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
