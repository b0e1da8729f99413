"""Profiles: round trip, refusals, predictions, and the hook that serves them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_edge import StudyMismatch, Target, UserError
from nas_edge.latency.fit import HeldOutError
from nas_edge.latency.model import Correction, LatencyModel
from nas_edge.latency.predictor import ProfilePredictor
from nas_edge.latency.profile import BASE, Profile, default_path
from nas_edge.targets.address import fingerprint_key

from .networks import Network

FINGERPRINT = {"cpu": "Some CPU", "onnxruntime": "1.31.1", "threads": 1, "load": 0.5}
MODEL = LatencyModel(0.01, {"stem": (0.002, 0.1, 0.0, 0.0, 0.001), "pointwise": (0.001, 0.02, 0.001, 0.0, 0.0)})
ERROR = HeldOutError(median=0.03, q90=0.1, within5=0.7, within10=0.9, networks=80)
PROFILE = Profile("local", FINGERPRINT, MODEL, ERROR, low_ms=0.001, high_ms=5.0, reference_ms=0.1)


class Board(Target):
    name = "board"

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def fingerprint(self) -> dict[str, Any]:
        return {**FINGERPRINT, **self.changes}


def network() -> Network:
    net = Network(3, 16)
    net.conv(net.node("Relu", [net.conv("input", 16, 3, 3)]), 32, 16)
    return net


def test_a_prediction_is_the_sum_of_its_kernels() -> None:
    net = network()
    prediction = PROFILE.predict(net.model(net.nodes[-1].output[0]))
    pixels = 256
    stem = 0.002 + 0.1 * pixels * 16 * 27 / 1e6 + 0.001 * pixels * 9 / 1e3
    pointwise = 0.001 + 0.02 * pixels * 32 * 16 / 1e6 + 0.001 * pixels * 48 * 4 / 1024
    assert prediction.ms == pytest.approx(0.01 + stem + pointwise)
    assert [k.kind for k in prediction.kernels] == [BASE, "stem", "pointwise"]
    assert [k.ms for k in prediction.kernels] == pytest.approx([0.01, stem, pointwise])
    assert [k.macs for k in prediction.kernels] == [0, pixels * 16 * 27, pixels * 32 * 16]
    assert prediction.low_ms == pytest.approx(prediction.ms / 1.1)
    assert prediction.high_ms == pytest.approx(prediction.ms / 0.9)
    assert prediction.unsupported == ()


def test_what_was_never_calibrated_is_named() -> None:
    net = network()
    pooled = net.node("GlobalAveragePool", [net.nodes[-1].output[0]])
    assert PROFILE.predict(net.model(net.node("Det", [pooled]), rank=2)).unsupported == ("Det", "global_pool")


def test_the_interval_is_wider_outside_the_calibrated_range() -> None:
    net = network()
    model = net.model(net.nodes[-1].output[0])
    inside, outside = PROFILE.predict(model), replace(PROFILE, low_ms=50.0, high_ms=90.0).predict(model)
    assert outside.ms == inside.ms
    assert outside.low_ms < inside.low_ms and outside.high_ms > inside.high_ms


@pytest.mark.parametrize("correction", [None, Correction(0.1, {"log_ms": -0.2}, {"log_ms": 0.0}, {"log_ms": 1.0})])
def test_round_trip(tmp_path: Path, correction: Correction | None) -> None:
    profile = replace(PROFILE, model=replace(MODEL, correction=correction))
    path = tmp_path / "folder" / "profile.json"
    profile.save(path)
    assert Profile.load(path) == profile
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile
    assert [p.name for p in path.parent.iterdir()] == ["profile.json"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "x"}, "not a latency profile"),
        ({"version": 99}, "version 99"),
        ({"features": ["calls"]}, "calibrate again"),
        ({"coefficients": {"stem": [1, 2]}}, "stem has 2 coefficients"),
        ({"coefficients": {"stem": [1, 2, -3, 4]}}, "-3 is not a finite number"),
        ({"coefficients": None}, "damaged"),
        ({"base_ms": float("nan")}, "nan is not a finite number"),
        ({"error": {"median": 0.1}}, "lacks 'networks'"),
        ({"error": {**ERROR.__dict__, "mode": 1}}, "mode"),
        ({"correction": {"intercept": 0, "weights": {"a": 1}, "means": {}, "scales": {}}}, "do not fit together"),
        ({"target": 5}, "5 is not a text"),
    ],
)
def test_damaged_profiles_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        Profile.from_json({**PROFILE.to_json(), **change})
    assert reason in str(caught.value) and "calibrate" in str(caught.value)


def test_a_missing_key_is_named() -> None:
    stored = PROFILE.to_json()
    del stored["base_ms"]
    with pytest.raises(UserError, match="lacks 'base_ms'"):
        Profile.from_json(stored)


def test_wrong_files_are_refused_with_their_path(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    with pytest.raises(UserError, match=r"profile.json: cannot be read"):
        Profile.load(path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"profile.json: not JSON"):
        Profile.load(path)
    path.write_text("[]")
    with pytest.raises(UserError, match=r"profile.json: not a latency profile"):
        Profile.load(path)
    with pytest.raises(UserError, match="cannot be written"):
        PROFILE.save(Path("/proc/nas_edge/profile.json"))


def test_another_target_is_refused_and_the_difference_named() -> None:
    PROFILE.check({**FINGERPRINT, "load": 7.0})
    with pytest.raises(StudyMismatch, match=r"onnxruntime 1\.31\.1, here 1\.32\.0; threads 1, here 2"):
        PROFILE.check({**FINGERPRINT, "onnxruntime": "1.32.0", "threads": 2})


def test_the_default_path_is_one_a_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    key = fingerprint_key(FINGERPRINT)
    assert default_path(FINGERPRINT) == tmp_path / "nas_edge" / "profiles" / f"{key}.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_path(FINGERPRINT).is_relative_to(Path.home() / ".cache")


def test_the_predictor_speaks_for_its_target_alone() -> None:
    net = network()
    model = net.model(net.nodes[-1].output[0])
    target = Board()
    predictor = ProfilePredictor(PROFILE, target)
    found = predictor.predict_latency(model, target)
    assert found is not None and found.ms == PROFILE.predict(model).ms
    assert predictor.predict_latency(model, Board(load=3.0)) is not None
    assert predictor.predict_latency(model, Board(threads=2)) is None
    with pytest.raises(StudyMismatch):
        ProfilePredictor(PROFILE, Board(threads=2))


def test_a_prediction_is_quick() -> None:
    net = network()
    model = net.model(net.nodes[-1].output[0])
    PROFILE.predict(model)
    assert np.isfinite(PROFILE.predict(model).ms)
