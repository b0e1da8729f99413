"""Makes the profile of a target: measures networks there, and fits the latency model to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from nas_edge.contracts import Target
from nas_edge.cpu import channel_block
from nas_edge.errors import InvalidCandidate, MeasurementError, UserError
from nas_edge.latency.graph import Work, kernels_of
from nas_edge.latency.matching import NodeTime, matched
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.nodes import Observation
from nas_edge.latency.profile import Profile
from nas_edge.targets.campaign import Campaign

Sample = Callable[[int], onnx.ModelProto | Path]
Progress = Callable[[int, float, "float | None"], None]
Add = Callable[[Path], Sequence[Any]]  # hands a network over, and says what the profiler saw of its nodes
MAKING_SHARE = 0.45
MEASURING_SHARE = 0.45  # the rest is for fitting
ROUNDS = 5
MIN_NETWORKS = 8
MIN_TO_FIT = 32
MAX_NETWORKS = 400
MAX_FAILURES = 50  # in a row
MIN_VISITS = 3
HOMES = 2  # processes that each network is measured in
PROFILE_MS = 30.0  # of each network under ONNX Runtime's profiler: with its reading, about 5 % of a calibration
STRANGE_SHARE = 0.5  # of the networks of later rounds: chosen for what the model is least sure of


class _Drawn(NamedTuple):
    """A network that may be measured."""

    path: Path
    graph: onnx.ModelProto
    work: Work


@dataclass
class _Calibration:
    """The networks so far, in the order of the campaign's visits."""

    target: Target
    sample: Sample
    work_dir: Path
    progress: Progress
    earlier: Profile | None = None
    start: float = field(default_factory=time.monotonic)
    next_index: int = 0
    paths: list[Path] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    nodes: list[list[Observation]] = field(default_factory=list)
    model: LatencyModel | None = None
    error: float | None = None

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def report(self) -> None:
        self.progress(len(self.works), self.seconds(), self.error)

    def make_networks(self, add: Add, until_s: float) -> None:
        """Sample networks and hand them over, until so many seconds after the start. One takes up to a second.

        Once there is a model, every second network is the stranger of two: the one that the model is less sure of.
        A machine that is too slow for the fewest that a profile needs takes longer.
        """
        slowest = 0.0
        while len(self.works) < MIN_NETWORKS or (len(self.works) < MAX_NETWORKS and self.seconds() + slowest < until_s):
            began = self.seconds()
            drawn = self._draw()
            model = self.model
            if model is not None and len(self.works) % round(1 / STRANGE_SHARE) == 0:
                drawn = max(drawn, self._draw(), key=lambda candidate: _strangeness(model, candidate.work))
            nodes = [NodeTime.parse(node) for node in add(drawn.path)]
            self.paths.append(drawn.path)
            self.works.append(drawn.work)
            self.nodes.append(matched(drawn.graph, drawn.work, nodes) if nodes else [])
            # Half-way towards this one's time: a single slow network does not end the round.
            slowest = (slowest + self.seconds() - began) / 2
            self.report()

    def _draw(self) -> _Drawn:
        """The next network that can be built."""
        failure: InvalidCandidate | None = None
        for _ in range(MAX_FAILURES):
            index, self.next_index = self.next_index, self.next_index + 1
            try:
                made = self.sample(index)
            except InvalidCandidate as error:
                failure = error
                continue
            if isinstance(made, Path):
                path, graph = made, onnx.load(made)
            else:
                path, graph = self.work_dir / f"network_{index:04d}.onnx", made
                path.write_bytes(made.SerializeToString())
            return _Drawn(path, graph, kernels_of(graph, block=channel_block(self.target.fingerprint())))
        raise InvalidCandidate(f"{MAX_FAILURES} candidates in a row could not be built: {failure}") from failure

    def usable(self) -> list[int]:
        """The networks whose every operator has a handler: the latency of the others says nothing about kernels."""
        return [i for i, work in enumerate(self.works) if not work.unsupported]

    def learn(self, latency_ms: list[float], reference_ms: float) -> Profile:
        """The profile of what was measured so far."""
        usable = self.usable()
        profile = Profile.fitted(
            [self.works[i] for i in usable],
            [latency_ms[i] for i in usable],
            target=self.target.name,
            fingerprint=self.target.fingerprint(),
            reference_ms=reference_ms,
            earlier=self.earlier,
            nodes=[self.nodes[i] for i in usable],
        )
        self.model, self.error = profile.model, profile.error.median
        self.report()
        return profile


def calibrate(
    target: Target,
    sample: Sample,
    *,
    budget_s: float = 75.0,
    progress: Progress | None = None,
    work_dir: Path,
    earlier: Profile | None = None,
    record: Callable[[Path, float], None] | None = None,
) -> Profile:
    """The profile of a target, in about `budget_s` seconds.

    `sample(i)` makes the i-th random network of the search's own distribution, as a model or an ONNX file; where it
    raises `InvalidCandidate` the network is left out. `progress(networks, seconds, error)` hears of each step, with
    the median held-out relative error once there is one. `earlier` is a profile of a similar device: what it holds is
    kept where the new measurements say nothing else. Networks are made and measured in turn, never at once: the one
    would disturb the other. `record` gets the files and latencies (ms) at the end. Raises `MeasurementError` where too
    few networks could be measured in time.
    """
    block = channel_block(target.fingerprint())
    if earlier is not None and earlier.block != block:
        raise UserError(
            f"the earlier profile is of a device whose convolutions have {earlier.block} channels a block, and those "
            f"of {target.name} have {block}: they run other kernels; leave it out"
        )
    made = _Calibration(target, sample, work_dir, progress or (lambda networks, seconds, error: None), earlier)
    opened = getattr(target, "campaign", None)
    if opened is None:
        latency_ms, reference_ms = _measure_at_once(target, made, budget_s)
    else:
        with opened(homes=HOMES) as campaign:
            latency_ms = _measure_in_rounds(campaign, made, budget_s)
            reference_ms = campaign.reference_ms()
    usable = made.usable()
    if len(usable) < MIN_NETWORKS:
        why = without_a_model({op for work in made.works for op in work.unsupported})
        raise MeasurementError(
            f"only {len(usable)} networks were measured{why}, and a profile needs {MIN_NETWORKS}; give it more time"
        )
    profile = made.learn(latency_ms, reference_ms)
    if record is not None:
        for path, ms in zip(made.paths, latency_ms, strict=True):
            record(path, ms)
    return profile


def _measure_in_rounds(campaign: Campaign, made: _Calibration, budget_s: float) -> list[float]:
    """Alternate making and measuring; networks of early rounds are visited again in later ones.

    Each network is profiled where the campaign can do so; an earlier profile says more than that.
    """

    def add(path: Path) -> Sequence[Any]:
        if made.earlier is not None or not hasattr(campaign, "nodes"):
            campaign.add(path)
            return ()
        return campaign.nodes(campaign.add(path, PROFILE_MS))

    for round_ in range(1, ROUNDS + 1):
        share = (MAKING_SHARE + MEASURING_SHARE) * budget_s / ROUNDS
        making_ends = (round_ - 1) * share + MAKING_SHARE * budget_s / ROUNDS
        made.make_networks(add, making_ends)
        campaign.run(max(round_ * share - made.seconds(), 0.0), made.report, min_rounds=MIN_VISITS)
        if len(made.usable()) >= MIN_TO_FIT and round_ < ROUNDS:
            made.learn(campaign.latencies_ms(), campaign.reference_ms())
    return campaign.latencies_ms()


def _measure_at_once(target: Target, made: _Calibration, budget_s: float) -> tuple[list[float], float]:
    """For a target that offers no campaign: make all networks, then measure them."""
    made.make_networks(lambda path: (), MAKING_SHARE * budget_s)
    seconds = max(MEASURING_SHARE * budget_s, 0.0) / max(len(made.paths), 1)
    measured = target.measure_many(made.paths, seconds)
    return [m.p50_ms for m in measured], 0.0


def without_a_model(unsupported: Collection[str]) -> str:
    """What to add where networks were left out for their operators; empty where none was."""
    return f" (operators without a latency model: {', '.join(sorted(unsupported))})" if unsupported else ""


def _strangeness(model: LatencyModel, work: Work) -> float:
    """How unsure the model is of a network: most of all where kinds of kernel have no price yet."""
    times = model.times(work)
    return len(model.unknown(work)) + times.shape_novelty + times.network_novelty
