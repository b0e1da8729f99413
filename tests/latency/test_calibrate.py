"""A small calibration with the real agent, one on a device whose law is known, and refusals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest

from nas_edge import InvalidCandidate, Measurement, MeasurementError, Target
from nas_edge.latency.calibrate import MIN_TO_FIT, PROFILE_MS, calibrate
from nas_edge.latency.graph import KernelWork, kernels_of
from nas_edge.latency.profile import Profile
from nas_edge.targets.local import LocalTarget

from .networks import Network, random_mobile

PER_UNIT = {"calls": 0.002, "mega_macs": 0.02, "kilobytes": 3e-5, "weight_kilobytes": 1e-4}


def true_ms(model: onnx.ModelProto) -> float:
    """A device whose depthwise kernels are dearer than others for the same work."""
    return 0.02 + sum(map(kernel_ms, kernels_of(model).kernels))


def kernel_ms(kernel: KernelWork) -> float:
    factor = 3.0 if kernel.kind == "depthwise" else 1.0
    return factor * sum(PER_UNIT.get(name, 0.0) * amount for name, amount in kernel.features.items())


class Oracle(Target):
    """A target that offers no campaign, and runs each network in the time that `true_ms` says."""

    name = "oracle"

    def fingerprint(self) -> dict[str, Any]:
        return {"cpu": "oracle", "threads": 1}

    def measure(self, model: Path, budget_s: float) -> Measurement:
        ms = true_ms(onnx.load(model))
        return Measurement(ms, ms, ms, ms, 10, self.name, self.fingerprint())

    def measure_many(self, models: Sequence[Path], budget_s: float) -> list[Measurement]:
        return [self.measure(model, budget_s) for model in models]


class Rounds(Oracle):
    """The same with a campaign that takes no time."""

    def __init__(self) -> None:
        self.models: list[Path] = []
        self.visits: list[int] = []  # how many networks each run visited

    @contextmanager
    def campaign(self, homes: int) -> Iterator[Rounds]:
        assert homes == 2
        yield self

    def add(self, model: Path) -> None:
        self.models.append(model)

    def run(self, budget_s: float, progress: Callable[[], None], *, min_rounds: int) -> None:
        self.visits.append(len(self.models))

    def latencies_ms(self) -> list[float]:
        return [true_ms(onnx.load(model)) for model in self.models]

    def reference_ms(self) -> float:
        return 0.25


class Profiled(Rounds):
    """The same, and its profiler says what each kernel takes; `asked` are the times it was given, in ms."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def add(self, model: Path, profile_ms: float = 0.0) -> int:  # type: ignore[override]
        super().add(model)
        self.asked.append(profile_ms)
        return len(self.models) - 1

    def nodes(self, index: int) -> list[Any]:
        nothing = ["float", [1]]
        kernels = kernels_of(onnx.load(self.models[index])).kernels
        return [[k.name, "", 2.0 + 1e3 * kernel_ms(k), nothing, nothing] for k in kernels]


@pytest.mark.alone
def test_a_real_calibration_predicts_unseen_networks(tmp_path: Path) -> None:
    heard: list[tuple[int, float, float | None]] = []

    def sample(index: int) -> onnx.ModelProto:
        if index == 3:
            raise InvalidCandidate("skipped")
        return random_mobile(index)

    target = LocalTarget()
    start = time.monotonic()
    profile = calibrate(target, sample, budget_s=6, progress=lambda *state: heard.append(state), work_dir=tmp_path)
    assert time.monotonic() - start < 30
    assert profile.error.networks == heard[-1][0] >= 8
    assert heard[-1][2] == profile.error.median
    assert profile.low_ms < profile.high_ms and profile.reference_ms > 0
    Profile.from_json(profile.to_json()).check(target.fingerprint())

    unseen = [random_mobile(seed) for seed in range(1000, 1006)]
    paths = []
    for index, model in enumerate(unseen):
        paths.append(tmp_path / f"unseen{index}.onnx")
        onnx.save(model, paths[-1])
    measured = target.measure_many(paths, 0.3)
    ratios = [profile.predict(m).ms / r.p50_ms for m, r in zip(unseen, measured, strict=True)]
    assert 0.6 < sorted(ratios)[len(ratios) // 2] < 1.6  # whatever else runs on this machine


def test_a_space_that_runs_dry_ends_the_calibration(tmp_path: Path) -> None:
    sampled: list[int] = []

    def sample(index: int) -> onnx.ModelProto:
        if index >= 24:
            raise InvalidCandidate("enough")
        sampled.append(index)
        return random_mobile(index)

    with pytest.raises(InvalidCandidate, match=r"50 candidates in a row could not be built: enough"):
        calibrate(Oracle(), sample, budget_s=60, work_dir=tmp_path)
    assert sampled == list(range(24))


def test_a_target_without_campaigns_is_calibrated_too(tmp_path: Path) -> None:
    def sample(index: int) -> Path:
        path = tmp_path / f"sample{index}.onnx"
        onnx.save(random_mobile(index), path)
        return path

    profile = calibrate(Oracle(), sample, budget_s=2, work_dir=tmp_path)
    assert profile.target == "oracle" and profile.error.median < 0.05
    model = random_mobile(5000)
    assert profile.predict(model).ms == pytest.approx(true_ms(model), rel=0.15)


def test_later_rounds_look_for_strange_networks(tmp_path: Path) -> None:
    """Every second network is then the stranger of two: more are drawn than are measured."""
    drawn: list[int] = []
    target = Rounds()

    def sample(index: int) -> onnx.ModelProto:
        drawn.append(index)
        return random_mobile(index)

    profile = calibrate(target, sample, budget_s=3, work_dir=tmp_path)
    measured = len(target.models)
    assert drawn == list(range(len(drawn)))
    assert len(target.visits) == 5 and target.visits == sorted(target.visits) and target.visits[-1] == measured
    assert profile.error.networks == measured > MIN_TO_FIT
    after_the_first_fit = measured - next(n for n in target.visits if n >= MIN_TO_FIT)
    assert len(drawn) - measured == pytest.approx(after_the_first_fit / 2, abs=1)
    assert profile.reference_ms == 0.25 and profile.error.median < 0.03


def test_what_was_measured_can_be_kept(tmp_path: Path) -> None:
    kept: dict[Path, float] = {}
    target = Rounds()
    calibrate(target, random_mobile, budget_s=0.5, work_dir=tmp_path, record=kept.__setitem__)
    assert list(kept) == target.models
    assert list(kept.values()) == [true_ms(onnx.load(path)) for path in kept]


def test_an_earlier_profile_makes_up_for_networks(tmp_path: Path) -> None:
    """Eight networks of a device that is as the earlier one."""
    earlier = calibrate(Rounds(), random_mobile, budget_s=2, work_dir=tmp_path)

    def few(index: int) -> onnx.ModelProto:
        return random_mobile(2000 + index)

    def error(started: Profile | None) -> float:
        profile = calibrate(Oracle(), few, budget_s=0.01, work_dir=tmp_path, earlier=started)
        assert profile.error.networks == 8
        models = [random_mobile(seed) for seed in range(3000, 3020)]
        return sorted(abs(profile.predict(m).ms / true_ms(m) - 1) for m in models)[10]

    assert error(earlier) < 0.5 * error(None)


def test_each_network_is_profiled_and_it_makes_up_for_networks(tmp_path: Path) -> None:
    """Where the campaign can do it, and no earlier profile says more."""

    def error(target: Rounds) -> float:
        profile = calibrate(target, random_mobile, budget_s=0.01, work_dir=tmp_path)
        models = [random_mobile(seed) for seed in range(3000, 3020)]
        return sorted(abs(profile.predict(m).ms / true_ms(m) - 1) for m in models)[10]

    target = Profiled()
    assert error(target) < 0.7 * error(Rounds())
    assert target.asked == [PROFILE_MS] * len(target.models)

    earlier = calibrate(Rounds(), random_mobile, budget_s=0.5, work_dir=tmp_path)
    again = Profiled()
    calibrate(again, random_mobile, budget_s=0.01, work_dir=tmp_path, earlier=earlier)
    assert set(again.asked) == {0.0}


def test_a_machine_too_slow_for_the_budget_takes_longer(tmp_path: Path) -> None:
    made: list[int] = []

    def slow(index: int) -> onnx.ModelProto:
        time.sleep(0.1)
        made.append(index)
        return random_mobile(index)

    assert calibrate(Oracle(), slow, budget_s=0.3, work_dir=tmp_path).error.networks == 8
    assert made == list(range(8))


def test_networks_with_unknown_operators_are_left_out_and_named(tmp_path: Path) -> None:
    def unknown(index: int) -> onnx.ModelProto:
        time.sleep(0.02)
        net = Network(3, 8, batch=1)
        return net.model(net.node("Det", ["input"]), rank=2)

    with pytest.raises(MeasurementError, match=r"only 0 networks .*operators without a latency model: Det"):
        calibrate(Oracle(), unknown, budget_s=0.5, work_dir=tmp_path)
