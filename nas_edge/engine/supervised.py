"""What a worker tells the process that supervises it, and hears from it; nothing where none does."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

CHANNEL, LOST = "NAS_EDGE_CHANNEL", "NAS_EDGE_LOST"  # environment variables: a descriptor; a `Lost` as JSON
ORPHANED, ORPHAN_S = 1, 10.0  # the exit status of a worker whose supervisor is gone, and the time that it has to end


class Lost(NamedTuple):
    """A trial, or its final training, over which the worker before this one died."""

    study: str
    trial: int
    final: bool
    why: str
    again: bool  # a limit would be met again


def is_supervised() -> bool:
    return CHANNEL in os.environ


def attach() -> None:
    """Listen from now on: without its supervisor this process ends, after it gave back its trial and its turn."""
    channel = _channel()
    if channel is None:
        return

    main = threading.main_thread()

    def listen() -> None:
        with suppress(OSError):
            while channel.recv(1):
                pass
        signal.pthread_kill(main.ident or 0, signal.SIGINT)  # wakes it where it sleeps, too
        time.sleep(ORPHAN_S)
        os._exit(ORPHANED)

    threading.Thread(target=listen, name="supervisor", daemon=True).start()


def lost_of(study: str, *, final: bool) -> Lost | None:
    """The trial that the worker before this one lost of a study. It is told once."""
    text = os.environ.get(LOST)
    if text is None:
        return None
    lost = Lost(**json.loads(text))
    if (lost.study, lost.final) != (study, final):
        return None
    del os.environ[LOST]
    return lost


@contextmanager
def in_hand(
    study: str, trial: int | None, timeout_s: float, memory_bytes: int, *, final: bool = False
) -> Iterator[None]:
    """Let the supervisor end this process if a trial, or the latency calibration, takes more than that in the block."""
    limits = {"timeout_s": timeout_s, "memory_bytes": memory_bytes}
    _tell({"in_hand": {"study": study, "trial": trial, "final": final, **limits}})
    try:
        yield
    finally:
        _tell({"in_hand": None})


def tell_end() -> None:
    """This process ends of itself, whatever its exit status."""
    _tell({"ended": True})


def _tell(what: dict[str, Any]) -> None:
    if (channel := _channel()) is not None:
        with suppress(OSError):
            channel.sendall(json.dumps(what).encode() + b"\n")


@functools.cache
def _channel() -> socket.socket | None:
    text = os.environ.pop(CHANNEL, None)  # it means nothing to what this process starts
    if text is None:
        return None
    channel = socket.socket(fileno=int(text))
    channel.set_inheritable(False)  # or what a plugin starts would keep the stream open
    return channel
