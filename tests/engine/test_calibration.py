"""Calibration of a target on random networks: what is said and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest

from nas_edge import InvalidCandidate, Measurement, Target
from nas_edge.config import StudyConfig, make_config
from nas_edge.engine.calibration import any_candidates, calibrate_any, calibrated, use_pipeline
from nas_edge.latency.graph import kernels_of
from nas_edge.latency.profile import Profile
from nas_edge.plugins import Registry

from .devices import Hearing

PER_UNIT = {"calls": 0.003, "mega_macs": 0.02, "kilobytes": 3e-5, "weight_kilobytes": 1e-4}
FACTORS = {"gemm": 4.0, "dense": 3.0, "plain.dense": 2.0, "bookkeeping": 0.1}


def board_ms(model: onnx.ModelProto, slowness: float = 1.0) -> float:
    total = 0.02
    for kernel in kernels_of(model).kernels:
        work = sum(PER_UNIT.get(name, 0.0) * amount for name, amount in kernel.features.items())
        total += FACTORS.get(kernel.kind, 1.0) * work
    return slowness * total


class Worker(Target):
    """A device whose latency follows from the work in a file."""

    name = "worker"

    def __init__(self, slowness: float = 1.0) -> None:
        self.slowness = slowness

    def fingerprint(self) -> dict[str, Any]:
        return {"cpu": "worker", "threads": 1, "slowness": self.slowness}

    def measure(self, model: Path, budget_s: float) -> Measurement:
        ms = board_ms(onnx.load(model), self.slowness)
        return Measurement(ms, ms, ms, ms, 10, self.name, self.fingerprint())

    def measure_many(self, models: Sequence[Path], budget_s: float) -> list[Measurement]:
        return [self.measure(model, budget_s) for model in models]


class Listener(Hearing):
    """Keeps the phases and the steps too."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: list[str] = []
        self.steps: list[tuple[int, float, float | None]] = []

    def phase(self, text: str) -> None:
        self.phases.append(text)

    def calibrated(self, networks: int, seconds: float, error: float | None) -> None:
        self.steps.append((networks, seconds, error))


@pytest.fixture
def worker(tiny: Registry) -> Registry:
    """The plugins with a target that is measured in no time."""
    tiny.targets["worker"] = lambda address: Worker()
    return tiny


def quick_config(seconds: float = 2.0) -> StudyConfig:
    """A short calibration; two seconds are less than a user may ask for."""
    config = make_config(None, {"space": "tiny", "target": "worker", "techniques": []})
    return config.model_copy(update={"calibration_seconds": seconds})


def test_a_profile_for_any_network_comes_from_candidates_and_probes(worker: Registry) -> None:
    heard = Listener()
    profile = calibrate_any(quick_config(6.0), worker, heard)
    assert heard.phases == ["Calibrating latency on worker (at most 6 s)"]
    networks = [step[0] for step in heard.steps]
    assert networks == sorted(networks) and networks[-1] == profile.error.networks >= 8
    assert heard.results == [
        f"calibrated on {profile.error.networks} networks; held-out error {profile.error.median:.1%} (median), "
        f"{profile.error.q90:.1%} (90 % quantile)"
    ]
    assert profile.domain == "tiny1/any/" and profile.target == "worker"
    candidates = any_candidates(quick_config(), worker, seed=9)
    models = [candidates(index) for index in range(8)]
    errors = sorted(abs(profile.predict(model).ms / board_ms(model) - 1) for model in models)
    assert errors[4] < 0.2
    of_probes_alone = {"add", "activation", "copy", "depthwise", "pointwise", "int8.pointwise"}
    assert of_probes_alone & set(profile.model.prices)


def test_it_starts_from_an_earlier_profile(worker: Registry) -> None:
    """A device half as fast, from the eight networks that there is time for."""
    candidates = any_candidates(quick_config(), worker)
    earlier = calibrated(Worker(), candidates, "tiny", 3.0, Listener())
    slow = Worker(2.0)

    def few(index: int) -> onnx.ModelProto:
        if index >= 8:
            raise InvalidCandidate("enough")
        return candidates(100 + index)

    def error(started: Profile | None) -> float:
        profile = calibrated(slow, few, "tiny", 0.01, Listener(), earlier=started)
        assert profile.error.networks == 8 and profile.domain == "tiny"
        models = [candidates(index) for index in range(200, 212)]
        return sorted(abs(profile.predict(model).ms / board_ms(model, 2.0) - 1) for model in models)[6]

    with_earlier, without = error(earlier), error(None)
    assert with_earlier < 0.7 * without


def test_a_config_that_names_no_technique_takes_the_usual_ones(worker: Registry) -> None:
    config = make_config(None, {"space": "tiny", "target": "worker"})
    names = {technique.name for technique in any_candidates(config, worker).techniques}
    assert names == {"prune", "low_rank", "quantize", "distill"} < set(worker.techniques)


def test_the_pipeline_is_registered_once(worker: Registry) -> None:
    use_pipeline(worker)
    before = len(worker.hooks.get_plugins())
    use_pipeline(worker)
    assert len(worker.hooks.get_plugins()) == before
