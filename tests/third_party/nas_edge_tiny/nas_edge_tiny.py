"""What makes a search quick enough for tests: tiny networks, and a device whose latency follows from the file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nas_edge import (
    CandidateSpec,
    Context,
    InvalidCandidate,
    Measurement,
    Prediction,
    Scope,
    SearchSpace,
    Supernet,
    Target,
    hookimpl,
)

MS_A_BYTE = 1e-5


class Tiny(SearchSpace):
    """Two convolutions, in 1,024 ways."""

    name = "tiny"

    def suggest(self, scope: Scope) -> dict[str, Any]:
        return {
            "width": scope.suggest_int("width", 4, 19),
            "features": scope.suggest_int("features", 8, 39),
            "kernel": scope.suggest_categorical("kernel", [3, 5]),
        }

    def build(self, params: Mapping[str, Any], *, in_channels: int, num_classes: int, resolution: int) -> Any:
        from torch import nn

        width, features, kernel = params["width"], params["features"], params["kernel"]
        if kernel > resolution:
            raise InvalidCandidate(f"kernel is {kernel}, more than the {resolution} pixels of an image")
        return nn.Sequential(
            nn.Conv2d(in_channels, width, kernel, 2, kernel // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, features, 3, 2, 1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(features * (-(-resolution // 4)) ** 2, num_classes),
        )

    def supernet(self) -> Supernet:
        largest, smallest = ({"width": w, "features": f, "kernel": k} for w, f, k in ((19, 39, 5), (4, 8, 3)))
        return Supernet(largest, smallest, [largest], lambda params, name: name)


class Bench(Target):
    """10 ns a byte of the file."""

    name = "bench"

    def fingerprint(self) -> dict[str, Any]:
        return {"cpu": "bench", "threads": 1}

    def measure(self, model: Path, budget_s: float) -> Measurement:
        ms = MS_A_BYTE * model.stat().st_size
        return Measurement(ms, 1.1 * ms, 0.9 * ms, 1.1 * ms, 10, self.name, self.fingerprint())


@hookimpl
def register_search_spaces(register: Callable[[SearchSpace], None]) -> None:
    register(Tiny())


@hookimpl
def register_targets(register: Callable[[str, Callable[[str], Target]], None]) -> None:
    register("bench", lambda address: Bench())


@hookimpl
def register_samplers(register: Callable[[str, Callable[[int], Any]], None]) -> None:
    def small_nsga2(seed: int) -> Any:
        """NSGA-II whose generations are of 4, so that a short study sees several."""
        import optuna

        return optuna.samplers.NSGAIISampler(seed=seed, population_size=4)

    register("small-nsga2", small_nsga2)


@hookimpl
def predict_latency(graph: Any, target: Target) -> Prediction | None:
    if not isinstance(target, Bench):
        return None
    ms = MS_A_BYTE * graph.ByteSize()
    return Prediction(ms, 0.9 * ms, 1.1 * ms)


@hookimpl
def validate_candidate(spec: CandidateSpec, context: Context) -> str | None:
    """Rejects nothing; takes so long that a process can be killed meanwhile."""
    time.sleep(float(os.environ.get("TINY_SECONDS", "0")))
    return None
