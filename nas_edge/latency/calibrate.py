"""Makes the profile of a target: measures random networks of a search space there, and fits the latency model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas_edge.contracts import Target
from nas_edge.errors import InvalidCandidate, MeasurementError
from nas_edge.latency.fit import HeldOutError, fit, held_out_errors
from nas_edge.latency.graph import Work, kernels_of, load_graph
from nas_edge.latency.profile import Profile
from nas_edge.latency.samples import steadied
from nas_edge.targets.campaign import Campaign

if TYPE_CHECKING:
    import onnx

Sample = Callable[[int], "onnx.ModelProto | Path"]
Progress = Callable[[int, float, "float | None"], None]
MAKING_SHARE = 0.5
MEASURING_SHARE = 0.44  # the rest is for fitting
ROUNDS = 5
MIN_NETWORKS = 8
MAX_NETWORKS = 400
MAX_FAILURES = 50  # in a row
MIN_VISITS = 2


@dataclass
class _Calibration:
    """The networks so far, in the order of the campaign's visits."""

    sample: Sample
    work_dir: Path
    progress: Progress
    start: float = field(default_factory=time.monotonic)
    next_index: int = 0
    works: list[Work] = field(default_factory=list)
    error: float | None = None

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def report(self) -> None:
        self.progress(len(self.works), self.seconds(), self.error)

    def make_networks(self, add: Callable[[Path], object], until_s: float) -> None:
        """Sample networks and hand them over, until so many seconds after the start. One takes up to a second.

        A machine that is too slow for the fewest that a profile needs takes longer.
        """
        failures = 0
        slowest = 0.0
        while len(self.works) < MIN_NETWORKS or (len(self.works) < MAX_NETWORKS and self.seconds() + slowest < until_s):
            began = self.seconds()
            index, self.next_index = self.next_index, self.next_index + 1
            try:
                made = self.sample(index)
            except InvalidCandidate as error:
                failures += 1
                if failures >= MAX_FAILURES:
                    raise InvalidCandidate(f"{failures} candidates in a row could not be built: {error}") from error
                continue
            failures = 0
            path, work = self._store(index, made)
            add(path)
            self.works.append(work)
            # Half-way towards this one's time: a single slow network does not end the round.
            slowest = (slowest + self.seconds() - began) / 2
            self.report()

    def _store(self, index: int, made: onnx.ModelProto | Path) -> tuple[Path, Work]:
        if isinstance(made, Path):
            return made, kernels_of(load_graph(made))
        path = self.work_dir / f"network_{index:04d}.onnx"
        path.write_bytes(made.SerializeToString())
        return path, kernels_of(made)


def calibrate(
    target: Target,
    sample: Sample,
    *,
    budget_s: float = 75.0,
    progress: Progress | None = None,
    work_dir: Path,
) -> Profile:
    """The profile of a target, in about `budget_s` seconds.

    `sample(i)` makes the i-th random network of the search's own distribution, as a model or an ONNX file; where it
    raises `InvalidCandidate` the network is left out. `progress(networks, seconds, error)` hears of each step, with
    the median held-out relative error once there is one. Networks are made and measured in turn, never at once: the
    one would disturb the other. Raises `MeasurementError` where too few networks could be measured in time.
    """
    made = _Calibration(sample, work_dir, progress or (lambda networks, seconds, error: None))
    opened = getattr(target, "campaign", None)
    if opened is None:
        latency_ms, reference_ms = _measure_at_once(target, made, budget_s)
    else:
        with opened() as campaign:
            latency_ms, reference_ms = _measure_in_rounds(campaign, made, budget_s)
    return _profile(target, made, latency_ms, reference_ms)


def _measure_in_rounds(campaign: Campaign, made: _Calibration, budget_s: float) -> tuple[list[float], float]:
    """Alternate making and measuring; networks of early rounds are visited again in later ones."""
    for round_ in range(1, ROUNDS + 1):
        share = (MAKING_SHARE + MEASURING_SHARE) * budget_s / ROUNDS
        making_ends = (round_ - 1) * share + MAKING_SHARE * budget_s / ROUNDS
        made.make_networks(campaign.add, making_ends)
        campaign.run(max(round_ * share - made.seconds(), 0.0), made.report, min_rounds=MIN_VISITS)
        if len(made.works) >= 4 * MIN_NETWORKS and round_ < ROUNDS:
            made.error = _quick_error(made, _latencies(campaign))
            made.report()
    return _latencies(campaign), campaign.reference_ms()


def _latencies(campaign: Campaign) -> list[float]:
    """One latency a network, all as if the reference had run at its typical speed."""
    reference_ms = campaign.reference_ms()
    return [float(np.median(steadied(visits, reference_ms))) for visits in campaign.visits]


def _measure_at_once(target: Target, made: _Calibration, budget_s: float) -> tuple[list[float], float]:
    """For a target that offers no campaign: make all networks, then measure them."""
    paths: list[Path] = []
    made.make_networks(paths.append, MAKING_SHARE * budget_s)
    seconds = max(MEASURING_SHARE * budget_s, 0.0) / max(len(paths), 1)
    measured = target.measure_many(paths, seconds)
    return [m.p50_ms for m in measured], 0.0


def _usable(made: _Calibration) -> list[int]:
    """The networks whose every operator has a handler: the latency of the others says nothing about kernels."""
    return [i for i, work in enumerate(made.works) if not work.unsupported]


def _quick_error(made: _Calibration, latency_ms: list[float]) -> float:
    usable = _usable(made)
    errors = held_out_errors([made.works[i] for i in usable], [latency_ms[i] for i in usable])
    return HeldOutError.of(errors).median


def _profile(target: Target, made: _Calibration, latency_ms: list[float], reference_ms: float) -> Profile:
    usable = _usable(made)
    if len(usable) < MIN_NETWORKS:
        unsupported = sorted({op for work in made.works for op in work.unsupported})
        why = f" (operators without a latency model: {', '.join(unsupported)})" if unsupported else ""
        raise MeasurementError(
            f"only {len(usable)} networks were measured{why}, and a profile needs {MIN_NETWORKS}; give it more time"
        )
    works, measured = [made.works[i] for i in usable], [latency_ms[i] for i in usable]
    error = HeldOutError.of(held_out_errors(works, measured))
    made.error = error.median
    made.report()
    return Profile(
        target=target.name,
        fingerprint=target.fingerprint(),
        model=fit(works, measured),
        error=error,
        low_ms=min(measured),
        high_ms=max(measured),
        reference_ms=reference_ms,
    )
