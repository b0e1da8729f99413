"""Samples candidates: the architecture from its space, which techniques are on, and the config of each."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from nas_edge.contracts import Scope, SearchSpace, Suggests, Technique
from nas_edge.spec import ArchSpec, CandidateSpec, Step


def suggest_spec(trial: Suggests, space: SearchSpace, techniques: Sequence[Technique]) -> CandidateSpec:
    """A candidate of an Optuna trial, or of a `RandomTrial`; `techniques` in the order they act."""
    params = space.suggest(Scope(trial, space.name))
    steps = []
    for technique in techniques:
        if trial.suggest_categorical(f"{technique.name}.enabled", [False, True]):
            config = technique.suggest(Scope(trial, technique.name))
            steps.append(Step(technique.name, technique.version, technique.config_to_json(config)))
    return CandidateSpec(ArchSpec(space.name, space.version, params), tuple(steps))


class RandomTrial:
    """Uniform draws without a study: for calibration and for teachers."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._drawn: dict[str, Any] = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            value = min(high, int(math.exp(self._random.uniform(math.log(low), math.log(high + 1)))))
        else:
            value = self._random.randrange(low, high + 1, step)
        return int(self._drawn.setdefault(name, value))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if log:
            value = math.exp(self._random.uniform(math.log(low), math.log(high)))
        else:
            value = self._random.uniform(low, high)
        if step is not None:
            value = low + step * self._random.randrange(round((high - low) / step) + 1)
        return float(self._drawn.setdefault(name, value))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._drawn.setdefault(name, self._random.choice(list(choices)))
