"""Runs a worker in a process group of its own, and starts it again when it dies over a trial.

The two share a socket. The worker says what it has in hand and what that may take; when it ends of itself it says that
too, so that everything else is a death: a crash, a plugin that exits, a limit. Either one sees that the other is gone
by the end of the stream. Nothing heavy is imported here, for this process lasts as long as the search.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import psutil

from nas_edge.engine.supervised import CHANNEL, LOST
from nas_edge.store.marks import SUPERVISOR, supervisor_mark

POLL_S = 1.0  # between two looks at the memory; what a worker says, and its end, is heard at once
STOP_S = 20.0  # that an interrupted worker has to put its trial back
MAX_DEATHS, IDLE_WEIGHT = 15, 5  # in a row, none of whose trials came to an end; those without a trial weigh more
OUR_FAULT = 1
SHOW_CURSOR = "\x1b[?25h"  # a live display hides it, and a killed one cannot show it again


@dataclass
class Supervisor:
    """One worker at a time, until one ends of itself. `given` is what each finds on its standard input."""

    command: Sequence[str]
    given: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    _slot: str = field(default_factory=lambda: uuid.uuid4().hex)
    _worker: subprocess.Popen[str] | None = None
    _stopped: int | None = None  # the signal that was passed on
    _scratch: str = ""  # the worker's temporary folder: a killed one leaves its files

    def run(self) -> int:
        """The exit status of the worker that ended of itself; 128 + N where signal N ended it all."""
        deaths = 0
        lost: dict[str, Any] | None = None
        while not self._stopped:
            watch = self._start(lost)
            while self._alive() and not self._stopped:
                watch.listen(POLL_S)
                if (why := watch.exceeded()) is not None:
                    self._kill()
                    watch.why = why
            status = self._ended(watch)
            watch.listen(0.0)
            watch.channel.close()
            if watch.ended or self._stopped:
                return status
            lost = watch.lost(status)
            # Without a trial in hand the next would die too: of the data, or of what a plugin does when it is loaded.
            weight = IDLE_WEIGHT if lost["trial"] is None else 1
            deaths = weight if watch.through else deaths + weight
            if deaths >= MAX_DEATHS:
                _say(f"error: one worker after the other died, and no trial came to an end; of the last: {lost['why']}")
                return OUR_FAULT
            _say(f"warning: {watch.what}: {lost['why']}; the search goes on")
        return 128 + self._stopped

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Pass a signal on; the worker has some time to end of itself."""
        self._stopped = number
        if self._worker is not None and self._worker.poll() is None:
            self._worker.send_signal(number)

    def _start(self, lost: dict[str, Any] | None) -> Watch:
        ours, theirs = socket.socketpair()
        variables = {**os.environ, **self.variables, CHANNEL: str(theirs.fileno())}
        with contextlib.suppress(OSError):  # where there is no room for one, the worker says so
            variables["TMPDIR"] = self._scratch = tempfile.mkdtemp(prefix="nas_edge_")
        variables[SUPERVISOR] = json.dumps(supervisor_mark(self._slot))
        variables.pop(LOST, None)
        if lost is not None and lost["trial"] is not None:
            variables[LOST] = json.dumps(lost)
        with theirs:
            self._worker = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL if self.given is None else subprocess.PIPE,
                env=variables,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # an interrupt at the terminal is for this process, which passes it on
                text=True,
            )
        if self.given is not None and self._worker.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died at once, which is seen below
                self._worker.stdin.write(self.given)
                self._worker.stdin.close()
        return Watch(ours, self._worker.pid)

    def _alive(self) -> bool:
        return self._worker is not None and self._worker.poll() is None

    def _ended(self, watch: Watch) -> int:
        """The exit status, once the worker and all that it started are gone."""
        worker = self._worker
        assert worker is not None
        until = time.monotonic() + STOP_S
        while worker.poll() is None and time.monotonic() < until:
            watch.listen(POLL_S)
        self._kill()
        status = worker.wait()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        if self._stopped and not watch.ended:
            return 128 + self._stopped
        return status

    def _kill(self) -> None:
        assert self._worker is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._worker.pid, signal.SIGKILL)


@dataclass
class Watch:
    """What a worker said of itself."""

    channel: socket.socket
    pid: int
    in_hand: dict[str, Any] | None = None
    since: float = 0.0
    through: bool = False  # a trial came to its end
    ended: bool = False
    why: str | None = None
    _rest: bytes = b""

    def listen(self, seconds: float) -> None:
        """Take in what comes within some time."""
        self.channel.settimeout(seconds or 0.001)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while data := self.channel.recv(65536):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
                self.channel.settimeout(0.001)
            time.sleep(min(seconds, 0.01))  # the other end is closed, and the process about to end

    def _take(self, said: dict[str, Any]) -> None:
        self.ended = self.ended or "ended" in said
        if "in_hand" in said:
            self.through = self.through or (self.in_hand is not None and said["in_hand"] is None)
            self.in_hand, self.since = said["in_hand"], time.monotonic()

    def exceeded(self) -> str | None:
        """The limit that what is in hand has gone over, in words."""
        if self.in_hand is None:
            return None
        limit_s, limit_bytes = self.in_hand["timeout_s"], self.in_hand["memory_bytes"]
        if time.monotonic() - self.since > limit_s:
            flag = "" if self.in_hand["trial"] is None else " (--trial-timeout)"
            return f"it took longer than {limit_s:g} s{flag}"
        taken = memory_of(self.pid)
        if taken > limit_bytes:
            return f"it took {taken / 1e6:,.0f} MB of memory, over {limit_bytes / 1e6:,.0f} MB (--trial-memory-mb)"
        return None

    @property
    def what(self) -> str:
        """What is in hand, in words."""
        if self.in_hand is None:
            return "a worker"
        trial = self.in_hand["trial"]
        return "the latency calibration" if trial is None else f"trial {trial}"

    def lost(self, status: int) -> dict[str, Any]:
        """What the next worker is to know: the trial that is lost, why, and whether it may be tried again."""
        of = self.in_hand or {"study": None, "trial": None, "final": False}
        what = {name: of[name] for name in ("study", "trial", "final")}
        return {**what, "why": self.why or f"its process {_death(status)}", "again": self.why is None}


def memory_of(pid: int) -> int:
    """The resident memory of a process and all that it started, in bytes."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total


def supervise(arguments: Sequence[str]) -> int:
    """Run `nas-edge` with these arguments under supervision, signals passed on; its exit status."""
    supervisor = Supervisor((sys.executable, "-P", "-m", "nas_edge", *arguments))

    def pass_on(number: int, frame: FrameType | None) -> None:
        supervisor.stop(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    return supervisor.run()


def _death(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    with contextlib.suppress(ValueError):
        return f"died of {signal.Signals(-status).name}"
    return f"died of signal {-status}"


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
        print(cursor + text, file=sys.stderr, flush=True)  # noqa: T201
