"""Talks to an agent over the pipes of a subprocess, with a time limit on every exchange."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nas_edge import agent
from nas_edge.errors import MeasurementError

START_TIMEOUT_S = 60.0
EXCHANGE_TIMEOUT_S = 60.0


class AgentRefusal(Exception):
    """The agent answered that it could not do what was asked; it lives on."""


class AgentClient:
    """One running agent. A context manager: the process is gone when it ends, whatever happened."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the client
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
            raise MeasurementError(f"the agent did not start: {error}") from None
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End the agent: its input closes, and after a moment it is killed."""
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

    def hello(self) -> dict[str, Any]:
        """The device's fingerprint."""
        reply = self.ask({"command": "hello"}, timeout_s=START_TIMEOUT_S)
        return {key: value for key, value in reply.items() if key != "ok"}

    def load(self, model: bytes) -> int:
        """Load an ONNX model; its id. Raises `AgentRefusal` with ONNX Runtime's reason."""
        return int(self.ask({"command": "load"}, model)["id"])

    def visit(self, model_id: int, duration_ms: float) -> tuple[list[float], list[float]]:
        """The wall and processor times in ms of each run of one visit."""
        reply = self.ask({"command": "visit", "id": model_id, "duration_ms": duration_ms})
        return reply["wall_ms"], reply["cpu_ms"]

    def unload(self, model_id: int) -> None:
        self.ask({"command": "unload", "id": model_id})

    def ask(
        self, header: Mapping[str, Any], payload: bytes = b"", *, timeout_s: float = EXCHANGE_TIMEOUT_S
    ) -> dict[str, Any]:
        """One request and its reply.

        Raises `AgentRefusal` where the agent says no, and `MeasurementError` where it is dead, silent for
        `timeout_s`, or answers with something that is no frame; then it is ended.
        """
        deadline = time.monotonic() + timeout_s
        try:
            self._send(agent.pack(dict(header), payload), deadline)
            length = agent.header_length(self._receive(agent.LENGTH.size, deadline))
            reply = agent.parse_header(self._receive(length, deadline))
        except (agent.ProtocolError, OSError) as error:
            raise self._dead(str(error)) from None
        if not reply.get("ok"):
            raise AgentRefusal(str(reply.get("error", "no reason given")))
        return reply

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            ready = select.select([], [self._in], [], max(0.0, deadline - time.monotonic()))[1]
            if not ready:
                raise self._dead("it took nothing in time")
            view = view[os.write(self._in, view[: 1 << 16]) :]

    def _receive(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            ready = select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise self._dead("it gave no answer in time")
            part = os.read(self._out, count - len(data))
            if not part:
                raise self._dead("it ended")
            data += part
        return bytes(data)

    def _dead(self, why: str) -> MeasurementError:
        """The error for an agent that cannot be used any more, with the last line that it wrote to stderr."""
        if self._errors.closed:
            return MeasurementError("the agent on the device is closed")
        self._process.kill()
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        self.close()
        detail = f" ({last})" if last else f" (exit status {status})"
        return MeasurementError(f"the agent on the device failed: {why}{detail}; measure again")
