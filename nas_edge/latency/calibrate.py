"""Makes the profile of a target: measures networks there, and fits the latency model to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nas_edge.contracts import Target
from nas_edge.errors import InvalidCandidate, MeasurementError
from nas_edge.latency.fit import fit
from nas_edge.latency.graph import Work, kernels_of, load_graph
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.profile import Profile
from nas_edge.targets.campaign import Campaign

if TYPE_CHECKING:
    import onnx

Sample = Callable[[int], "onnx.ModelProto | Path"]
Progress = Callable[[int, float, "float | None"], None]
MAKING_SHARE = 0.45
MEASURING_SHARE = 0.45  # the rest is for fitting
ROUNDS = 5
MIN_NETWORKS = 8
MIN_TO_FIT = 32
MAX_NETWORKS = 400
MAX_FAILURES = 50  # in a row
MIN_VISITS = 3
HOMES = 2  # processes that each network is measured in
STRANGE_SHARE = 0.5  # of the networks of later rounds: chosen for what the model is least sure of


@dataclass
class _Calibration:
    """The networks so far, in the order of the campaign's visits."""

    sample: Sample
    work_dir: Path
    progress: Progress
    earlier: Profile | None = None
    start: float = field(default_factory=time.monotonic)
    next_index: int = 0
    failures: int = 0
    paths: list[Path] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    model: LatencyModel | None = None
    error: float | None = None

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def report(self) -> None:
        self.progress(len(self.works), self.seconds(), self.error)

    def make_networks(self, add: Callable[[Path], object], until_s: float) -> None:
        """Sample networks and hand them over, until so many seconds after the start. One takes up to a second.

        Once there is a model, every second network is the stranger of two: the one that the model is less sure of.
        A machine that is too slow for the fewest that a profile needs takes longer.
        """
        slowest = 0.0
        while len(self.works) < MIN_NETWORKS or (len(self.works) < MAX_NETWORKS and self.seconds() + slowest < until_s):
            began = self.seconds()
            path, work = self._draw()
            model = self.model
            if model is not None and len(self.works) % round(1 / STRANGE_SHARE) == 0:
                path, work = max((path, work), self._draw(), key=lambda drawn: _strangeness(model, drawn[1]))
            add(path)
            self.paths.append(path)
            self.works.append(work)
            # Half-way towards this one's time: a single slow network does not end the round.
            slowest = (slowest + self.seconds() - began) / 2
            self.report()

    def _draw(self) -> tuple[Path, Work]:
        """The next network that can be built."""
        while True:
            index, self.next_index = self.next_index, self.next_index + 1
            try:
                made = self.sample(index)
            except InvalidCandidate as error:
                self.failures += 1
                if self.failures >= MAX_FAILURES:
                    raise InvalidCandidate(
                        f"{self.failures} candidates in a row could not be built: {error}"
                    ) from error
                continue
            self.failures = 0
            if isinstance(made, Path):
                return made, kernels_of(load_graph(made))
            path = self.work_dir / f"network_{index:04d}.onnx"
            path.write_bytes(made.SerializeToString())
            return path, kernels_of(made)

    def usable(self) -> list[int]:
        """The networks whose every operator has a handler: the latency of the others says nothing about kernels."""
        return [i for i, work in enumerate(self.works) if not work.unsupported]

    def learn(self, latency_ms: list[float]) -> HeldOutError:
        """Fit the model to what was measured so far."""
        usable = self.usable()
        earlier = None if self.earlier is None else self.earlier.model
        self.model, errors = fit([self.works[i] for i in usable], [latency_ms[i] for i in usable], earlier)
        error = HeldOutError.of(errors)
        self.error = error.median
        self.report()
        return error


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
    made = _Calibration(sample, work_dir, progress or (lambda networks, seconds, error: None), earlier)
    opened = getattr(target, "campaign", None)
    if opened is None:
        latency_ms, reference_ms = _measure_at_once(target, made, budget_s)
    else:
        with opened(homes=HOMES) as campaign:
            latency_ms = _measure_in_rounds(campaign, made, budget_s)
            reference_ms = campaign.reference_ms()
    usable = made.usable()
    if len(usable) < MIN_NETWORKS:
        unsupported = sorted({op for work in made.works for op in work.unsupported})
        why = f" (operators without a latency model: {', '.join(unsupported)})" if unsupported else ""
        raise MeasurementError(
            f"only {len(usable)} networks were measured{why}, and a profile needs {MIN_NETWORKS}; give it more time"
        )
    error = made.learn(latency_ms)
    if record is not None:
        for path, ms in zip(made.paths, latency_ms, strict=True):
            record(path, ms)
    if made.model is None:
        raise AssertionError("learn() sets the model")
    measured = [latency_ms[i] for i in usable]
    return Profile(
        target=target.name,
        fingerprint=target.fingerprint(),
        model=made.model,
        error=error,
        low_ms=min(measured),
        high_ms=max(measured),
        reference_ms=reference_ms,
    )


def _measure_in_rounds(campaign: Campaign, made: _Calibration, budget_s: float) -> list[float]:
    """Alternate making and measuring; networks of early rounds are visited again in later ones."""
    for round_ in range(1, ROUNDS + 1):
        share = (MAKING_SHARE + MEASURING_SHARE) * budget_s / ROUNDS
        making_ends = (round_ - 1) * share + MAKING_SHARE * budget_s / ROUNDS
        made.make_networks(campaign.add, making_ends)
        campaign.run(max(round_ * share - made.seconds(), 0.0), made.report, min_rounds=MIN_VISITS)
        if len(made.usable()) >= MIN_TO_FIT and round_ < ROUNDS:
            made.learn(campaign.latencies_ms())
    return campaign.latencies_ms()


def _measure_at_once(target: Target, made: _Calibration, budget_s: float) -> tuple[list[float], float]:
    """For a target that offers no campaign: make all networks, then measure them."""
    paths: list[Path] = []
    made.make_networks(paths.append, MAKING_SHARE * budget_s)
    seconds = max(MEASURING_SHARE * budget_s, 0.0) / max(len(paths), 1)
    measured = target.measure_many(paths, seconds)
    return [m.p50_ms for m in measured], 0.0


def _strangeness(model: LatencyModel, work: Work) -> float:
    """How unsure the model is of a network: most of all where kinds of kernel have no price yet."""
    times = model.times(work)
    return len(model.unknown(work)) + times.shape_novelty + times.network_novelty
