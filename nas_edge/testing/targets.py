"""The checks of a target."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

from nas_edge.contracts import Target
from nas_edge.errors import MeasurementError, ModelError
from nas_edge.export import export_onnx, save_model
from nas_edge.records import Measurement
from nas_edge.targets.address import fingerprint_key
from nas_edge.testing.checks import doing, require
from nas_edge.testing.networks import CHANNELS, NETWORKS, SIDE, made

REACH = "let it be reachable while it is tested"


class TargetTests:
    """Give the fixture `target`, and inherit the checks. A measurement gets `budget_s` seconds, and at most ten more
    than ten times as many.
    """

    budget_s: ClassVar[float] = 0.3

    @pytest.fixture
    def target(self) -> Target:
        """The target under test: the one thing that a subclass must give."""
        raise NotImplementedError("give the fixture: `@pytest.fixture def target(self): return MyTarget(...)`")

    @pytest.fixture
    def models(self, tmp_path: Path) -> list[Path]:
        """Two ONNX files."""
        paths = []
        for name in ("plain", "depthwise"):
            graph = export_onnx(made(NETWORKS[name]), channels=CHANNELS, resolution=SIDE)
            paths.append(tmp_path / f"{name}.onnx")
            save_model(graph, paths[-1])
        return paths

    def fingerprint(self, target: Target) -> dict[str, Any]:
        with doing(f"{target.name}.fingerprint()", REACH):
            return target.fingerprint()

    def test_it_has_a_name(self, target: Target) -> None:
        name = getattr(target, "name", None)
        require(isinstance(name, str) and name, f"the target has the name {name!r}; set self.name to its address")

    def test_its_fingerprint_is_json(self, target: Target) -> None:
        found = self.fingerprint(target)
        require(
            isinstance(found, dict) and found,
            f"{target.name}.fingerprint() returned {found!r}; return what a latency depends on, such as "
            "{'cpu': ..., 'architecture': ..., 'threads': 1, 'onnxruntime': ...}",
        )
        with doing(f"{target.name}: writing its fingerprint {found!r} as JSON", "keep to what JSON holds"):
            again = json.loads(json.dumps(found, allow_nan=False))
        require(again == found, f"{target.name}: its fingerprint {found!r} becomes {again!r} through JSON; use lists")

    def test_its_fingerprint_stays_the_same(self, target: Target) -> None:
        first, second = self.fingerprint(target), self.fingerprint(target)
        require(
            fingerprint_key(first) == fingerprint_key(second),
            f"{target.name} has the fingerprint {first!r}, and then {second!r}; leave out what changes by itself, for "
            "what was measured under another fingerprint is not used again",
        )

    def test_a_measurement_is_sound(self, target: Target, models: list[Path]) -> None:
        start = time.monotonic()
        with doing(f"{target.name}.measure of a small network", REACH):
            found = target.measure(models[0], self.budget_s)
        seconds = time.monotonic() - start
        self.check(target, found)
        require(
            seconds < 10 + 10 * self.budget_s,
            f"{target.name}.measure took {seconds:.1f} s where it was given {self.budget_s} s; measure fewer times",
        )

    def check(self, target: Target, found: Measurement) -> None:
        what = f"{target.name}.measure returned"
        require(isinstance(found, Measurement), f"{what} {found!r}; return a nas_edge.Measurement")
        require(
            0 < found.low_ms <= found.p50_ms <= found.high_ms and found.p50_ms <= found.p90_ms,
            f"{what} a median of {found.p50_ms} ms in {found.low_ms} to {found.high_ms} ms and a p90 of {found.p90_ms} "
            "ms; give milliseconds above 0, the median within its interval and not above the p90",
        )
        require(found.samples >= 1, f"{what} {found.samples} samples; say how many single runs it is the median of")
        require(
            found.target == target.name and fingerprint_key(found.fingerprint) == fingerprint_key(target.fingerprint()),
            f"{what} the target {found.target!r} with {dict(found.fingerprint)!r}; give its own name and fingerprint",
        )

    def test_several_are_measured_in_their_order(self, target: Target, models: list[Path]) -> None:
        with doing(f"{target.name}.measure_many", REACH):
            found = target.measure_many(models, self.budget_s)
        require(
            len(found) == len(models),
            f"{target.name}.measure_many gave {len(found)} measurements of {len(models)} files; give one of each",
        )
        for one in found:
            self.check(target, one)

    @pytest.mark.parametrize("content", [b"no model", None], ids=["no_model", "no_file"])
    def test_what_is_no_model_is_refused_in_words(self, target: Target, tmp_path: Path, content: bytes | None) -> None:
        path, what = tmp_path / "wrong.onnx", f"{target.name}.measure of a file that is no model"
        if content is not None:
            path.write_bytes(content)
        try:
            found = target.measure(path, self.budget_s)
        except (MeasurementError, ModelError) as error:
            require(
                "wrong.onnx" in str(error) and "\n" not in str(error),
                f"{what} says {str(error)!r}; name the file, in one line",
            )
        except Exception as error:
            reason = f"{what} raised {type(error).__name__}: {error}; raise MeasurementError"
            raise pytest.fail.Exception(reason, pytrace=True) from error
        else:
            pytest.fail(f"{what} gave {found!r}; raise MeasurementError", pytrace=False)
