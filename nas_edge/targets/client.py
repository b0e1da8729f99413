"""Asks agents for measurements, and outlives them: a dropped link or a dead agent is replaced by a new one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from nas_edge import agent
from nas_edge.errors import MeasurementError
from nas_edge.targets.address import differences
from nas_edge.targets.process import AgentProcess, AgentRefusal, LinkLost

__all__ = ["AgentClient", "AgentRefusal"]

START_TIMEOUT_S = 60.0  # a small board reads onnxruntime from a slow card
SILENCE_S = 20.0  # how long a link may lag behind the work
UPLOAD_BYTES_PER_S = 250_000
SLOWDOWN = 20  # of a throttled device, times the runs of a short visit

T = TypeVar("T")
Times = Annotated[list[Annotated[FiniteFloat, Field(gt=0)]], Field(min_length=1, max_length=agent.MAX_RUNS)]
Typed = tuple[str, list[int]]


class _Hello(BaseModel):
    """What an agent says of its device; what is missing is unknown."""

    model_config = ConfigDict(extra="allow", strict=True)

    cpu: str = ""
    architecture: str = ""
    instruction_sets: list[str] = []
    cores: int | None = None
    onnxruntime: str = ""
    provider: str = ""
    providers: list[str] = []
    threads: int = 1
    affinity: list[int] = []
    governor: str | None = None
    load: float | None = None


class _Loaded(BaseModel):
    id: int
    run_ms: Annotated[FiniteFloat, Field(ge=0)]
    nodes: list[tuple[str, str, FiniteFloat, Typed, Typed]] = []


class _Visited(BaseModel):
    wall_ms: Times
    cpu_ms: Times


Reply = TypeVar("Reply", bound=BaseModel)


def _parsed(kind: type[Reply], reply: dict[str, Any]) -> Reply:
    """A reply as it must be. Raises `LinkLost` where it is not."""
    try:
        return kind.model_validate(reply)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"]))
        raise LinkLost(f"its reply makes no sense: {name} is {str(fault['input'])[:80]!r}: {fault['msg']}") from None


class AgentClient:
    """An agent, started by `start` at the first question. A context manager: the process is gone when it ends.

    When the agent or the link to it dies, it is started again after each of `pauses_s` in turn, and the models are
    loaded again as they are needed; what was measured stays measured. With no pauses, the first loss is final. Every
    method raises `MeasurementError` once it gave up.
    """

    def __init__(self, start: Callable[[], AgentProcess], pauses_s: Sequence[float] = ()) -> None:
        self.pauses_s = tuple(pauses_s)
        self._start = start
        self._process: AgentProcess | None = None
        self._device: dict[str, Any] | None = None
        self._ids = itertools.count(1)
        self._models: dict[int, bytes] = {}
        self._nodes: dict[int, list[Any]] = {}
        self._loaded: dict[int, tuple[int, float]] = {}  # in this process: its id of the model, and the time of a run

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
        self._process = None
        self._loaded.clear()

    def hello(self) -> dict[str, Any]:
        """The device's fingerprint. Raises `AgentRefusal` where the agent cannot work there."""
        return self._lasting(self._hello)

    def load(self, model: bytes, profile_ms: float = 0.0) -> int:
        """Load an ONNX model; its id. Raises `AgentRefusal` with ONNX Runtime's reason.

        With `profile_ms` it first runs under ONNX Runtime's profiler for so long: see `nodes`.
        """
        if len(model) > agent.MODEL_LIMIT:
            limit = agent.MODEL_LIMIT >> 20
            raise AgentRefusal(f"it has {len(model) >> 20} MB, and the agent takes models of at most {limit}")
        identity = next(self._ids)
        self._models[identity] = model
        try:
            self._lasting(lambda process: self._load(process, identity, profile_ms))
        except AgentRefusal:
            del self._models[identity]
            raise
        return identity

    def nodes(self, model_id: int) -> list[Any]:
        """What the profiler said of a model's nodes, as the agent reports it; empty where it was not asked."""
        return self._nodes.get(model_id, [])

    def visit(self, model_id: int, duration_ms: float) -> tuple[list[float], list[float]]:
        """The wall and processor times in ms of each run of one visit. Raises `AgentRefusal`."""

        def exchange(process: AgentProcess) -> _Visited:
            identity, run_ms = self._load(process, model_id)
            work_s = min((duration_ms + SLOWDOWN * run_ms) / 1e3, 2 * agent.MAX_RUN_S)
            request = {"command": "visit", "id": identity, "duration_ms": duration_ms}
            return _parsed(_Visited, process.ask(request, timeout_s=SILENCE_S + work_s))

        reply = self._lasting(exchange)
        return reply.wall_ms, reply.cpu_ms

    def unload(self, model_id: int) -> None:
        """Forget a model."""
        del self._models[model_id]
        self._nodes.pop(model_id, None)
        if model_id in self._loaded:
            identity, _ = self._loaded.pop(model_id)
            self._lasting(lambda process: process.ask({"command": "unload", "id": identity}, timeout_s=SILENCE_S))

    def _lasting(self, exchange: Callable[[AgentProcess], T]) -> T:
        """What `exchange` answers, over a new link where the present one is lost in it."""
        tries = 1 + len(self.pauses_s)
        for pause_s in (*self.pauses_s, None):
            try:
                return exchange(self._connected())
            except LinkLost as error:
                self.close()
                if pause_s is None:
                    if tries == 1:
                        raise
                    raise MeasurementError(
                        f"the agent on the device failed {tries} times in a row, the last time: {error.why}; "
                        "see that the device is on and reachable, then measure again"
                    ) from None
            time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def _connected(self) -> AgentProcess:
        if self._process is None:
            self._process = self._start()
            if self._device is not None:
                self._hello(self._process)
        return self._process

    def _hello(self, process: AgentProcess) -> dict[str, Any]:
        reply = process.ask({"command": "hello"}, timeout_s=START_TIMEOUT_S)
        _parsed(_Hello, reply)
        device = {key: value for key, value in reply.items() if key != "ok"}
        if self._device is not None and (different := differences(self._device, device)):
            raise MeasurementError(f"the device changed in the middle ({'; '.join(different)}); measure again")
        self._device = device
        return device

    def _load(self, process: AgentProcess, identity: int, profile_ms: float = 0.0) -> tuple[int, float]:
        """The process's own id of a model, and the time of a run in ms; loads it where that is still to be done."""
        if identity not in self._loaded:
            model = self._models[identity]
            timeout_s = SILENCE_S + 3 * agent.MAX_RUN_S + len(model) / UPLOAD_BYTES_PER_S
            request = {"command": "load", "profile_ms": profile_ms}
            reply = _parsed(_Loaded, process.ask(request, model, timeout_s=timeout_s))
            self._loaded[identity] = reply.id, reply.run_ms
            self._nodes.setdefault(identity, list(reply.nodes))
        return self._loaded[identity]
