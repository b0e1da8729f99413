"""Samples candidates: the architecture from its space, which techniques are on, and the config of each."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from nas_edge.contracts import Scope, SearchSpace, Suggests, Technique
from nas_edge.engine.choices import Choices, Narrowed
from nas_edge.errors import InvalidCandidate
from nas_edge.spec import ENABLED, ArchSpec, CandidateSpec, Step

NO_CHOICES = Choices()


def suggest_spec(
    trial: Suggests, space: SearchSpace, techniques: Sequence[Technique], choices: Choices = NO_CHOICES
) -> CandidateSpec:
    """A candidate of an Optuna trial, or of a `RandomTrial`; `techniques` in the order they act."""
    params = space.suggest(Scope(Narrowed(trial, choices), space.name))
    taken = _deciding(trial, techniques, choices)
    steps = []
    for technique in techniques:
        on = technique in taken if technique.exclusive else _enabled(trial, technique, choices)
        if on:
            steps.append(Step(technique.name, technique.version, suggest_config(trial, technique, choices)))
    return CandidateSpec(ArchSpec(space.name, space.version, params), tuple(steps))


def suggest_config(trial: Suggests, technique: Technique, choices: Choices = NO_CHOICES) -> dict[str, Any]:
    """A technique's config as JSON: as it samples it, with what was chosen in place of what it sampled.

    Raises `InvalidCandidate` where the two do not go together.
    """
    narrowed = Narrowed(trial, choices)
    try:
        sampled = technique.config_to_json(technique.suggest(Scope(narrowed, technique.name)))
    except InvalidCandidate:  # what was chosen may only go together with another choice that is not sampled
        names = {f.name: f"{technique.name}.{f.name}" for f in fields(technique.config_type)}
        sampled = {name: narrowed.given[full] for name, full in names.items() if full in narrowed.given}
    chosen = choices.of_fields(trial, technique)
    return technique.config_to_json(technique.config_from_json({**sampled, **chosen}))


def _enabled(trial: Suggests, technique: Technique, choices: Choices) -> bool:
    name = f"{technique.name}.{ENABLED}"
    if name in choices:
        return bool(choices.pick(trial, name))
    return bool(trial.suggest_categorical(name, [False, True]))


def _deciding(trial: Suggests, techniques: Sequence[Technique], choices: Choices) -> list[Technique]:
    """Which of the techniques are on that decide what only one may.

    One after the other, those that need no training first, so that most candidates are quick: once one is on, the
    others are off and not asked for. So no candidate is sampled only to be rejected.
    """
    exclusive = [t for t in techniques if t.exclusive]
    deciding = [t for t in exclusive if choices.fixes_on(t)]
    for technique in sorted(exclusive, key=lambda t: t.overrides("structure")):
        free = not any(technique.exclusive & other.exclusive for other in deciding)
        if free and _enabled(trial, technique, choices):
            deciding.append(technique)
    return deciding


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
