"""A small calibration with the real agent, and its refusals."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest

from nas_edge import InvalidCandidate, Measurement, MeasurementError, Target
from nas_edge.latency.calibrate import calibrate
from nas_edge.latency.graph import kernels_of
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.profile import Profile
from nas_edge.targets.local import LocalTarget

from .networks import Network, random_mobile

TRUTH = LatencyModel(
    0.01,
    {
        kind: (0.001, price, 0.0005, 0.0001, 0.0001)
        for kind, price in {
            "stem": 0.1, "pointwise": 0.02, "depthwise": 0.3, "reorder": 0.0, "elementwise": 0.0, "vector": 0.1,
            "global_pool": 0.0, "gemm": 0.05, "bookkeeping": 0.0,
        }.items()
    },
)  # fmt: skip


class Oracle(Target):
    """A target that offers no campaign, and runs each network in the time that `TRUTH` says."""

    name = "oracle"

    def fingerprint(self) -> dict[str, Any]:
        return {"cpu": "oracle", "threads": 1}

    def measure(self, model: Path, budget_s: float) -> Measurement:
        ms = TRUTH.latency_ms(kernels_of(onnx.load(model)))
        return Measurement(ms, ms, ms, ms, 10, self.name, self.fingerprint())

    def measure_many(self, models: Sequence[Path], budget_s: float) -> list[Measurement]:
        return [self.measure(model, budget_s) for model in models]


def test_a_real_calibration_predicts_unseen_networks(tmp_path: Path) -> None:
    heard: list[tuple[int, float, float | None]] = []
    sampled: list[int] = []

    def sample(index: int) -> onnx.ModelProto:
        if index >= 24:
            raise InvalidCandidate("enough")
        sampled.append(index)
        if index == 3:
            raise InvalidCandidate("skipped")
        return random_mobile(index)

    target = LocalTarget()
    start = time.monotonic()
    with pytest.raises(InvalidCandidate, match=r"50 candidates in a row could not be built: enough"):
        calibrate(target, sample, budget_s=60, work_dir=tmp_path)
    assert sampled == list(range(24))
    profile = calibrate(
        target,
        lambda i: random_mobile(i) if i != 3 else _invalid(),
        budget_s=6,
        progress=lambda *state: heard.append(state),
        work_dir=tmp_path,
    )
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


def _invalid() -> onnx.ModelProto:
    raise InvalidCandidate("skipped")


def test_a_target_without_campaigns_is_calibrated_too(tmp_path: Path) -> None:
    def sample(index: int) -> Path:
        path = tmp_path / f"sample{index}.onnx"
        onnx.save(random_mobile(index), path)
        return path

    # Hard-swish and plain channels have no price in the oracle: keep to what it knows.
    def known(index: int) -> Path:
        path = sample(index)
        if TRUTH.unknown(kernels_of(onnx.load(path))):
            raise InvalidCandidate("not priced")
        return path

    profile = calibrate(Oracle(), known, budget_s=2, work_dir=tmp_path)
    assert profile.target == "oracle" and profile.error.median < 0.05
    model = random_mobile(5000)
    assert profile.predict(model).ms == pytest.approx(TRUTH.latency_ms(kernels_of(model)), rel=0.15)


def test_a_machine_too_slow_for_the_budget_takes_longer(tmp_path: Path) -> None:
    made: list[int] = []

    def slow(index: int) -> onnx.ModelProto:
        time.sleep(0.1)
        made.append(index)
        return random_mobile(index)

    with contextlib.suppress(MeasurementError):  # some of them have kernels that the oracle does not price
        calibrate(Oracle(), slow, budget_s=0.3, work_dir=tmp_path)
    assert made == list(range(8))


def test_networks_with_unknown_operators_are_left_out_and_named(tmp_path: Path) -> None:
    def unknown(index: int) -> onnx.ModelProto:
        time.sleep(0.02)
        net = Network(3, 8, batch=1)
        return net.model(net.node("Det", ["input"]), rank=2)

    with pytest.raises(MeasurementError, match=r"only 0 networks .*operators without a latency model: Det"):
        calibrate(Oracle(), unknown, budget_s=0.5, work_dir=tmp_path)
