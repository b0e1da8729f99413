"""Measures many models at once: short visits in shuffled rounds, with a look at reference networks around each visit.

A shared or throttled machine changes its speed within seconds, so one long block a model measures the moment. Visits
that are spread over the campaign see every state of the machine, and the references, run before and after, tell how
fast it was just then. Each start of a process lays out its memory anew, which shifts latencies: visits go round over
several processes.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas_edge.errors import MeasurementError, ModelError
from nas_edge.latency.samples import BUSY, JITTER, Visit, busy_share, jitter, quantile, steadied
from nas_edge.targets.anchors import Anchor
from nas_edge.targets.client import AgentClient, AgentRefusal
from nas_edge.targets.references import REFERENCES_MS, SMALL, reference_model, reference_models

__all__ = ["Campaign", "read_model", "reference_model"]

VISIT_MS = 40.0
MIN_ROUNDS = 3
ANCHOR_S = 1.5  # of visits, as `nas-edge measure` takes, before a campaign may become the anchor of later ones
ANCHOR_SPREAD = 1.25  # of the references' times, upper over lower quartile, that it may have


def read_model(path: Path) -> bytes:
    """The bytes of a model file. Raises `ModelError` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give the path of an ONNX file") from None


@dataclass(frozen=True)
class _Look:
    """How long the reference networks took in one process, in ms."""

    process: int
    ms: Mapping[str, float]


@dataclass(frozen=True)
class _Record:
    """A visit as it was seen, before anything is known of what is usual."""

    times_ms: tuple[float, ...]
    wall_ms: tuple[float, ...]
    before: _Look
    after: _Look


@dataclass
class _Model:
    path: Path
    data: bytes
    ids: dict[int, int] = field(default_factory=dict)  # by process, where it is loaded
    nodes: list[Any] = field(default_factory=list)
    records: list[_Record] = field(default_factory=list)


class Campaign:
    """Models that agents know, and their visits so far. More models may join between runs.

    Each model is visited in `homes` of the processes in turn (all of them, where that is None), and loaded in each at
    its first visit there. Latencies are as if the device had run at the speed of `anchor` throughout; without one, at
    the typical speed of the campaign. Raises `MeasurementError` where the device runs no reference network.
    """

    def __init__(
        self,
        clients: Sequence[AgentClient],
        *,
        use_cpu_time: bool,
        seed: int = 0,
        homes: int | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        self.anchor = anchor
        self.alone = True  # on its device, as far as that is known
        self._clients = list(clients)
        self._homes = min(homes or len(self._clients), len(self._clients))
        self._use_cpu_time = use_cpu_time
        self._random = random.Random(seed)
        self._models: list[_Model] = []
        self._looks: list[_Look] = []
        self._references = self._load_references()
        for process in range(len(self._clients)):
            self._look(process)

    # --- measuring

    def add(self, path: Path, profile_ms: float = 0.0) -> int:
        """Load a file; its index in `visits`. Raises `ModelError` with ONNX Runtime's reason, in one line.

        With `profile_ms` it first runs under ONNX Runtime's profiler for so long: see `nodes`.
        """
        self._models.append(model := _Model(path, read_model(path)))
        index = len(self._models) - 1
        try:
            self._loaded(model, self._home(index), profile_ms)
        except ModelError:
            self._models.pop()
            raise
        return index

    def run(self, seconds: float, progress: Callable[[], None] | None = None, *, min_rounds: int = MIN_ROUNDS) -> None:
        """Visit the models, the least visited first, for about `seconds`; each gets `min_rounds` visits in all."""
        if not self._models:
            return
        end = time.monotonic() + seconds
        before = self._look(self._home(0))
        while True:
            fewest = min(len(model.records) for model in self._models)
            due = [index for index, model in enumerate(self._models) if len(model.records) == fewest]
            self._random.shuffle(due)
            for index in due:
                if time.monotonic() >= end and fewest >= min_rounds:
                    return
                before = self._visit(index, before)
                if progress is not None:
                    progress()

    def _home(self, index: int) -> int:
        """The process of a model's next visit. Models start in different ones, so that all are used alike."""
        return (index + len(self._models[index].records) % self._homes) % len(self._clients)

    def _visit(self, index: int, before: _Look) -> _Look:
        model, process = self._models[index], self._home(index)
        identity = self._loaded(model, process)
        try:
            wall, cpu = self._clients[process].visit(identity, VISIT_MS)
        except AgentRefusal as error:
            raise MeasurementError(f"{model.path}: it does not run on random images: {error}") from None
        after = self._look(process)
        model.records.append(_Record(tuple(cpu if self._use_cpu_time else wall), tuple(wall), before, after))
        return after

    def _loaded(self, model: _Model, process: int, profile_ms: float = 0.0) -> int:
        """The id of a model in a process; loads it where that is still to be done."""
        if process not in model.ids:
            client = self._clients[process]
            try:
                model.ids[process] = client.load(model.data, profile_ms)
            except AgentRefusal as error:
                raise ModelError(f"{model.path}: ONNX Runtime refuses it: {error}") from None
            if profile_ms:
                model.nodes = client.nodes(model.ids[process])
        return model.ids[process]

    def _load_references(self) -> dict[str, list[int]]:
        """The ids of each reference network in the processes. A provider may not take all of them."""
        loaded: dict[str, list[int]] = {}
        refused = ""
        for name, data in reference_models().items():
            try:
                loaded[name] = [client.load(data) for client in self._clients]
            except AgentRefusal as error:
                refused = str(error)
        if not loaded:
            raise MeasurementError(f"the device runs no reference network: {refused}; try another provider")
        return loaded

    def _look(self, process: int) -> _Look:
        times = {}
        for name, ids in self._references.items():
            try:
                wall, cpu = self._clients[process].visit(ids[process], REFERENCES_MS[name])
            except AgentRefusal as error:
                raise MeasurementError(
                    f"the device no longer runs the {name} reference network: {error}; measure again"
                ) from None
            times[name] = statistics.median(cpu if self._use_cpu_time else wall)
        self._looks.append(look := _Look(process, times))
        return look

    # --- what it found

    @property
    def visits(self) -> list[list[Visit]]:
        """The visits of each model, in their order in time."""
        usual = self._usual_ms()
        return [
            [Visit(r.times_ms, r.wall_ms, _slowdown(r, usual), r.after.process) for r in model.records]
            for model in self._models
        ]

    def latencies_ms(self) -> list[float]:
        """The median of each model over its visits."""
        return [statistics.median(steadied(visits)) for visits in self.visits]

    def nodes(self, index: int) -> list[Any]:
        """What the profiler said of a model's nodes, as the agent reports it; empty where it was not profiled."""
        return self._models[index].nodes

    def speed(self) -> float:
        """How fast the references typically ran, as a share of their speed when the anchor was made; 1 without one."""
        return math.exp(_mean_log(self._usual_ms(), self.references_ms()))

    def references_ms(self) -> dict[str, float]:
        """The typical time of each reference network over the campaign."""
        return {name: statistics.median(look.ms[name] for look in self._looks) for name in self._references}

    def reference_ms(self) -> float:
        """The time of the small reference network at the speed that latencies are given for."""
        return self._usual_ms().get(SMALL, 0.0)

    def can_be_anchor(self) -> bool:
        """Whether it was long and quiet enough to hold later campaigns to its typical speed."""
        visits = [visit for visits in self.visits for visit in visits]
        if not self.alone or sum(sum(visit.wall_ms) for visit in visits) < ANCHOR_S * 1e3:
            return False
        slowdowns = [visit.slowdown for visit in visits]
        spread = quantile(slowdowns, 0.75) / quantile(slowdowns, 0.25)
        return busy_share(visits) <= 1 - 1 / BUSY and jitter(visits) <= JITTER and spread <= ANCHOR_SPREAD

    def _usual_ms(self) -> Mapping[str, float]:
        """The times of the references at the speed that latencies are given for."""
        return self.references_ms() if self.anchor is None else self.anchor.reference_ms


def _slowdown(record: _Record, usual: Mapping[str, float]) -> float:
    """How many times longer than usual the references took around a visit."""
    return math.exp((_mean_log(record.before.ms, usual) + _mean_log(record.after.ms, usual)) / 2)


def _mean_log(times: Mapping[str, float], usual: Mapping[str, float]) -> float:
    """The mean logarithm of times over the usual ones of the same networks; 0 where they have none in common."""
    logs = [math.log(times[name] / usual[name]) for name in times.keys() & usual.keys()]
    return statistics.fmean(logs) if logs else 0.0
