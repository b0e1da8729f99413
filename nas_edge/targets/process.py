"""One running agent, spoken to over the pipes of a subprocess, with a time limit on every exchange."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas_edge import agent
from nas_edge.errors import MeasurementError

HAVE, WANT = b"nas-edge agent: have", b"nas-edge agent: want"
NOISE_LIMIT = 1 << 16  # bytes that a device's login scripts may print before the agent starts
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class AgentRefusal(Exception):
    """The agent answered that it could not do what was asked; it lives on. `missing` names packages that it lacks."""

    def __init__(self, why: str, missing: Sequence[str] = ()) -> None:
        super().__init__(why)
        self.missing = tuple(missing)


class LinkLost(MeasurementError):
    """The agent died, fell silent, or sent what is no frame; its process is ended. `why` says which."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the agent on the device failed: {why}; measure again")
        self.why = why


class AgentProcess:
    """A subprocess that is an agent, or the link to one. A context manager: it is gone when the block ends."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=None if env is None else dict(env),
                cwd=os.sep,  # ours may be gone
                bufsize=0,
            )
        except OSError as error:
            self._errors.close()
            raise LinkLost(f"{command[0]} did not start: {error}") from None
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)

    def __enter__(self) -> AgentProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End the process: its input closes, and after a moment it is killed."""
        if self._errors.closed:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def ask(self, header: Mapping[str, Any], payload: bytes = b"", *, timeout_s: float) -> dict[str, Any]:
        """One request and its reply.

        Raises `AgentRefusal` where the agent says no, and `LinkLost` where it is dead, silent for `timeout_s`, or
        answers with something that is no frame; then it is ended.
        """
        deadline = time.monotonic() + timeout_s
        with self._fatal():
            # An agent that refuses a payload stops listening: its reply says more than the broken pipe.
            with contextlib.suppress(BrokenPipeError):
                self._send(agent.pack(dict(header), payload), deadline)
            length = agent.header_length(self._receive(agent.LENGTH.size, deadline))
            reply = agent.parse_header(self._receive(length, deadline))
        if not reply.get("ok"):
            missing = reply.get("missing")
            names = list(map(str, missing)) if isinstance(missing, list) else []
            raise AgentRefusal(str(reply.get("error", "no reason given"))[: agent.MAX_REASON], names)
        return reply

    def deliver(self, program: bytes, *, timeout_s: float) -> None:
        """Wait until the other side has the program that it will run, and hand it over if it asks. `LinkLost` if not.

        Whatever else is printed before is left out.
        """
        deadline = time.monotonic() + timeout_s
        seen = b""
        with self._fatal():
            while len(seen) < NOISE_LIMIT:
                seen += self._receive(1, deadline)
                if seen.endswith(HAVE + b"\n"):
                    return
                if seen.endswith(WANT + b"\n"):
                    self._send(program, deadline)
            raise agent.ProtocolError("its login scripts print too much")

    @contextlib.contextmanager
    def _fatal(self) -> Iterator[None]:
        """Whatever goes wrong with the pipes ends the process."""
        if self._errors.closed:
            raise LinkLost("it is closed")
        try:
            yield
        except (agent.ProtocolError, OSError) as error:
            raise LinkLost(self._end(str(error))) from None

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            ready = select.select([], [self._in], [], max(0.0, deadline - time.monotonic()))[1]
            if not ready:
                raise TimeoutError("it took nothing in time")
            view = view[os.write(self._in, view[: 1 << 16]) :]

    def _receive(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            ready = select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise TimeoutError("it gave no answer in time")
            part = os.read(self._out, count - len(data))
            if not part:
                raise agent.ProtocolError("it ended")
            data += part
        return bytes(data)

    def _end(self, why: str) -> str:
        """Kill the process; why, with the last line that it wrote to stderr or else its exit status."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # a moment to say its last words
            self._process.wait(timeout=0.2)
        self._process.kill()
        status = self._process.wait()
        self._errors.seek(0)
        lines = COLOUR.sub("", self._errors.read().decode(errors="replace")).split("\n")
        last = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), f"exit status {status}")
        self.close()
        return f"{why} ({last})"
