"""Profiles: round trip, refusals, predictions and their doubts, and the hook that serves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from nas_edge import StudyMismatch, Target, UserError
from nas_edge.latency.fit import fit
from nas_edge.latency.graph import kernels_of
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.predictor import ProfilePredictor
from nas_edge.latency.profile import BASE, MOST_DOUBT, Profile, default_path
from nas_edge.targets.address import fingerprint_key

from .networks import Network, random_mobile

FINGERPRINT = {"cpu": "Some CPU", "onnxruntime": "1.31.1", "threads": 1, "load": 0.5}
FREE = dict.fromkeys(
    ("kilobytes", "weight_kilobytes", "relu_kilobytes", "kilo_rows", "kilo_row_taps", "mega_odd_macs")
    + ("mega_border_macs", "mega_macs_of_1_blocks", "mega_macs_of_2_blocks", "mega_macs_of_3_blocks"),
    0.0,
)
PRICES = {
    "direct.dense": {**FREE, "calls": 0.002, "mega_macs": 0.1, "kilo_rows": 0.01},
    "pointwise": {**FREE, "calls": 0.001, "mega_macs": 0.02, "kilobytes": 0.0001},
}
MODEL = LatencyModel(0.01, PRICES)
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


def two_convolutions() -> onnx.ModelProto:
    net = network()
    return net.model(net.nodes[-1].output[0])


def measured_ms(model: onnx.ModelProto) -> float:
    """A device with one price for each unit of common work."""
    per_unit = {"calls": 0.003, "mega_macs": 0.02, "kilobytes": 3e-5, "weight_kilobytes": 1e-4}
    features = [kernel.features for kernel in kernels_of(model).kernels]
    return 0.02 + sum(per_unit.get(name, 0.0) * amount for row in features for name, amount in row.items())


@pytest.fixture(scope="module")
def fitted() -> Profile:
    """A profile calibrated on small mobile networks."""
    models = [random_mobile(seed) for seed in range(60)]
    measured = [measured_ms(model) for model in models]
    model, errors = fit([kernels_of(m) for m in models], measured)
    return Profile("local", FINGERPRINT, model, HeldOutError.of(errors), min(measured), max(measured), 0.1)


def widths(profile: Profile, model: onnx.ModelProto) -> tuple[float, float]:
    """How far the interval reaches below and above the prediction, as shares of it."""
    found = profile.predict(model)
    return 1 - found.low_ms / found.ms, found.high_ms / found.ms - 1


def test_a_prediction_is_the_sum_of_its_kernels() -> None:
    prediction = PROFILE.predict(two_convolutions())
    pixels = 256
    dense = 0.002 + 0.1 * 16 * (16 * 3 - 2) * 16 * 9 / 1e6 + 0.01 * (16 * 3 - 2) / 1e3
    pointwise = 0.001 + 0.02 * pixels * 32 * 16 / 1e6 + 0.0001 * pixels * 48 * 4 / 1024
    assert prediction.ms == pytest.approx(0.01 + dense + pointwise)
    assert [k.kind for k in prediction.kernels] == [BASE, "direct.dense", "pointwise"]
    assert [k.ms for k in prediction.kernels] == pytest.approx([0.01, dense, pointwise])
    assert [k.macs for k in prediction.kernels] == [0, pixels * 16 * 27, pixels * 32 * 16]
    assert prediction.low_ms == pytest.approx(prediction.ms / 1.1)
    assert prediction.high_ms == pytest.approx(prediction.ms / 0.9)
    assert prediction.unsupported == () and prediction.outside is None


def test_what_was_never_calibrated_is_named() -> None:
    net = network()
    pooled = net.node("GlobalAveragePool", [net.nodes[-1].output[0]])
    assert PROFILE.predict(net.model(net.node("Det", [pooled]), rank=2)).unsupported == ("Det", "global_pool")


def test_networks_like_the_calibrated_ones_are_inside(fitted: Profile) -> None:
    for seed in range(1000, 1020):
        model = random_mobile(seed)
        found = fitted.predict(model)
        assert found.outside is None and found.unsupported == ()
        assert found.ms == pytest.approx(measured_ms(model), rel=0.1)
        assert found.low_ms < measured_ms(model) < found.high_ms


def stretched(side: int, channels: int) -> onnx.ModelProto:
    """A convolution of kinds that were calibrated, of any size."""
    net = Network(3, side)
    value = net.node("Relu", [net.conv("input", 16, 3, 3, stride=2)])
    value = net.node("Relu", [net.conv(value, channels, 16)])
    value = net.conv(net.conv(value, channels, 1, 3, group=channels), 16, channels)
    flat = net.node("Flatten", [net.node("GlobalAveragePool", [value])])
    return net.model(net.node("Gemm", [flat, net.weight(10, 16)], transB=1), rank=2)


def test_the_interval_widens_with_the_distance_from_what_was_calibrated(fitted: Profile) -> None:
    sizes = [stretched(side, channels) for side, channels in ((32, 48), (128, 192), (512, 1024))]
    near, farther, far = (widths(fitted, model) for model in sizes)
    assert (
        near[0] < farther[0] < far[0] and near[1] < farther[1] <= far[1] + 1e-9
    )  # which ends at ten times the prediction
    assert far[1] > max(2 * near[1], MOST_DOUBT)


def test_latencies_beyond_the_calibrated_range_are_outside(fitted: Profile) -> None:
    model = random_mobile(1000)
    found = replace(fitted, low_ms=50.0, high_ms=90.0).predict(model)
    assert found.outside == f"{found.ms:.3g} ms is beyond the 50 to 90 ms that were calibrated"
    usual = replace(fitted, low_ms=0.5 * found.ms, high_ms=2 * found.ms).predict(model)
    assert usual.outside is None and found.high_ms - found.low_ms > 1.5 * (usual.high_ms - usual.low_ms)
    found = replace(fitted, low_ms=1e-4, high_ms=2e-4).predict(model)
    assert found.outside is not None and "beyond the 0.0001 to 0.0002 ms" in found.outside
    slightly = replace(fitted, low_ms=1.2 * found.ms, high_ms=90.0).predict(model)
    assert slightly.outside is None


def test_kernels_unlike_the_calibrated_ones_are_outside(fitted: Profile) -> None:
    """In the calibrated range of latencies, but of one channel-starved kernel on a huge map."""
    wide = replace(fitted, high_ms=1e6)
    assert wide.predict(stretched(32, 48)).outside is None
    found = wide.predict(stretched(1024, 2048))
    assert found.outside is not None and found.outside.startswith("its kernels are unlike those calibrated")


@pytest.mark.parametrize("plain", [True, False])
def test_round_trip(tmp_path: Path, fitted: Profile, plain: bool) -> None:
    profile = replace(PROFILE, domain="mine") if plain else fitted
    path = tmp_path / "folder" / "profile.json"
    profile.save(path)
    assert [p.name for p in path.parent.iterdir()] == ["profile.json"]
    read = Profile.load(path)
    assert replace(read, model=MODEL) == replace(profile, model=MODEL)
    assert read.to_json() == Profile.from_json(json.loads(json.dumps(read.to_json()))).to_json()
    model = random_mobile(1000)
    assert read.predict(model).ms == pytest.approx(profile.predict(model).ms, rel=1e-4)
    assert read.predict(model).high_ms == pytest.approx(profile.predict(model).high_ms, rel=1e-3)


def damaged(change: Mapping[str, Any]) -> dict[str, Any]:
    """The stored profile with some keys replaced; those of the model are given as `model.key`."""
    stored = PROFILE.to_json()
    for key, value in change.items():
        place = stored["model"] if key.startswith("model.") else stored
        place[key.removeprefix("model.")] = value
    return stored


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "x"}, "not a latency profile"),
        ({"version": 99}, "version 99"),
        ({"model": None}, "damaged"),
        ({"model.prices": {"stem": [1, 2]}}, "damaged"),
        ({"model.prices": {"stem": {"calls": -3}}}, "-3 is not a price of 0 or more"),
        ({"model.base_ms": float("nan")}, "nan is not a finite number"),
        ({"model.network": {"kinds": [], "points": [[1.0]], "weights": [1.0, 2.0]}}, "do not fit together"),
        ({"error": {"median": 0.1}}, "lacks 'networks'"),
        ({"error": {**ERROR.__dict__, "mode": 1}}, "mode"),
        ({"low_ms": -1}, "-1 is not a finite number of 0 or more"),
        ({"target": 5}, "5 is not a text"),
    ],
)
def test_damaged_profiles_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        Profile.from_json(damaged(change))
    assert reason in str(caught.value) and "calibrate" in str(caught.value)


def test_profiles_of_version_1_are_refused_with_a_remedy() -> None:
    first = {key: value for key, value in PROFILE.to_json().items() if key != "model"}
    first |= {"version": 1, "features": ["calls"], "base_ms": 0.01, "coefficients": {"stem": [0.1]}}
    with pytest.raises(UserError, match="has version 1, this nas-edge reads version 2; calibrate again"):
        Profile.from_json(first)


@pytest.mark.parametrize("key", ["model", "error", "fingerprint", "low_ms", "domain"])
def test_a_missing_key_is_named(key: str) -> None:
    stored = PROFILE.to_json()
    del stored[key]
    with pytest.raises(UserError, match=f"lacks '{key}'; calibrate again"):
        Profile.from_json(stored)


def test_wrong_files_are_refused_with_their_path(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    with pytest.raises(UserError, match=r"profile.json: cannot be read"):
        Profile.load(path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"profile.json is not JSON"):
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


def test_a_kept_profile_is_found_by_its_target_and_by_its_domain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    paths = replace(PROFILE, domain="tiny1/any/").keep()
    assert paths == [default_path(FINGERPRINT), default_path(FINGERPRINT, "tiny1/any/")]
    assert [Profile.load(path).domain for path in paths] == ["tiny1/any/"] * 2


def test_the_predictor_speaks_for_its_target_alone() -> None:
    model = two_convolutions()
    target = Board()
    predictor = ProfilePredictor(PROFILE, target)
    found = predictor.predict_latency(model, target)
    assert found is not None and found.ms == PROFILE.predict(model).ms
    assert predictor.predict_latency(model, Board(load=3.0)) is not None
    assert predictor.predict_latency(model, Board(threads=2)) is None
    with pytest.raises(StudyMismatch):
        ProfilePredictor(PROFILE, Board(threads=2))
