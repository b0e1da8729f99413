"""Decisions that the user fixed by name, or narrowed to a few values: `--set prune.criterion=taylor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from nas_edge.contracts import Suggests, Technique
from nas_edge.spec import ENABLED

T = TypeVar("T")


@dataclass(frozen=True)
class Choices:
    """By name the values that are left to choose from: one is fixed, several are searched among as a categorical."""

    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Choices:
        """Of a config's `set`, where a list holds several values."""
        return cls({name: tuple(v) if isinstance(v, list) else (v,) for name, v in given.items()})

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def pick(self, trial: Suggests, name: str) -> Any:
        """The value of a name in a trial."""
        values = self.values[name]
        return values[0] if len(values) == 1 else trial.suggest_categorical(name, list(values))

    def of_fields(self, trial: Suggests, technique: Technique) -> dict[str, Any]:
        """What is chosen of a technique's config."""
        names = {f.name: f"{technique.name}.{f.name}" for f in fields(technique.config_type)}
        return {name: self.pick(trial, full) for name, full in names.items() if full in self}

    def fixes_on(self, technique: Technique) -> bool:
        return self.values.get(f"{technique.name}.{ENABLED}") == (True,)


@dataclass(frozen=True)
class Narrowed:
    """A trial in which the choices are made already. What they leave open is asked of the trial itself.

    `given` are the values that were given so far.
    """

    trial: Suggests
    choices: Choices
    given: dict[str, Any] = field(default_factory=dict)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if name in self.choices:
            chosen: int = self.choices.pick(self.trial, name)
            return self._keep(name, chosen)
        return self._keep(name, self.trial.suggest_int(name, low, high, step=step, log=log))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if name in self.choices:
            value = self.choices.pick(self.trial, name)
            return self._keep(name, float(value) if type(value) is int else value)
        return self._keep(name, self.trial.suggest_float(name, low, high, step=step, log=log))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name in self.choices:
            return self._keep(name, self.choices.pick(self.trial, name))
        return self._keep(name, self.trial.suggest_categorical(name, choices))

    def _keep(self, name: str, value: T) -> T:
        self.given[name] = value
        return value
