"""Holds what the user fixed by name against what a search space and its techniques have to decide."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nas_edge.contracts import Scope, SearchSpace, Technique
from nas_edge.engine.choices import Choices, Narrowed
from nas_edge.engine.ranges import DRAWS, Recorder, described
from nas_edge.engine.sample import RandomTrial, suggest_config
from nas_edge.errors import InvalidCandidate, UserError, unknown_name
from nas_edge.spec import ENABLED
from nas_edge.steps import check_exclusive

TRIES = 20  # draws of everything else, until a value fits to one of them


@dataclass(frozen=True)
class _Ask(Narrowed):
    """Asks a recorder also for what is chosen already, so that it knows the ranges."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        drawn = self.trial.suggest_int(name, low, high, step=step, log=log)
        return super().suggest_int(name, low, high) if name in self.choices else drawn

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        drawn = self.trial.suggest_float(name, low, high, step=step, log=log)
        return super().suggest_float(name, low, high) if name in self.choices else drawn

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        drawn = self.trial.suggest_categorical(name, choices)
        return super().suggest_categorical(name, choices) if name in self.choices else drawn


def check_choices(
    choices: Choices, space: SearchSpace, techniques: Iterable[Technique], installed: Iterable[str] = ()
) -> None:
    """Raise `UserError` for a name that nothing decides, and for a value that does not fit, naming what would do."""
    if not choices.values:
        return
    by_name = {t.name: t for t in techniques}
    for name in choices.values:
        owner, _, field_name = name.partition(".")
        if owner == space.name:
            continue
        if owner not in by_name:
            if owner in set(installed):
                raise UserError(f"set {name}: {owner!r} is not searched over; add it to --techniques")
            known = [f"{n}.{field_name if field_name in _names(t) else ENABLED}" for n, t in by_name.items()]
            raise unknown_name("choice", name, [*known, space.name] if field_name else by_name)
        names = [f"{owner}.{n}" for n in _names(by_name[owner])]
        if not field_name:
            raise UserError(f"set {name} is no decision; name one of {', '.join(names)}")
        if field_name not in _names(by_name[owner]):
            raise unknown_name("choice", name, names)
    _check_space(choices, space)
    for technique in by_name.values():
        _check_technique(choices, technique)
    try:
        check_exclusive([t for t in by_name.values() if choices.fixes_on(t)])
    except InvalidCandidate as error:
        raise UserError(str(error)) from None


def _names(technique: Technique) -> list[str]:
    """What can be decided of a technique."""
    return [ENABLED, *(f.name for f in fields(technique.config_type))]


def _check_space(choices: Choices, space: SearchSpace) -> None:
    """Hold the choices of an architecture against the ranges that the space samples from."""
    own = [name for name in choices.values if name.partition(".")[0] == space.name]
    if not own:
        return
    recorder = Recorder(random.Random(0))
    for _ in range(DRAWS):
        with contextlib.suppress(Exception):  # a value of the wrong type: its range is known by then
            space.suggest(Scope(_Ask(recorder, choices), space.name))
    for name in own:
        if name not in recorder.seen:
            raise unknown_name("choice", name, recorder.seen)
        for value in choices.values[name]:
            if not _within(value, recorder.seen[name]):
                raise UserError(f"set {name}: {value!r} will not do; give {described(recorder.seen[name])}")


def _within(value: Any, row: Mapping[str, Any]) -> bool:
    if row["type"] == "categorical":
        return any(value == choice and type(value) is type(choice) for choice in row["choices"])
    if isinstance(value, bool) or not isinstance(value, int if row["type"] == "int" else (int, float)):
        return False
    steps = (value - row["low"]) / row["step"] if row["step"] else 0.0
    return bool(row["low"] <= value <= row["high"] and abs(steps - round(steps)) < 1e-9)


def _check_technique(choices: Choices, technique: Technique) -> None:
    """Make a config with each value; it is refused where it fits to none of some draws of everything else.

    Of values that do not go together the one is named that the technique itself names.
    """
    for value in choices.values.get(f"{technique.name}.{ENABLED}", ()):
        if not isinstance(value, bool):
            raise UserError(f"set {technique.name}.{ENABLED}: {value!r} will not do; give true or false")
    faults = []
    for f in fields(technique.config_type):
        name = f"{technique.name}.{f.name}"
        for value in choices.values.get(name, ()):
            reason = _fault(Choices({**choices.values, name: (value,)}), technique)
            if reason is not None:
                faults.append((f" {f.name}={value!r} " not in reason, f"set {name}: {value!r} will not do: {reason}"))
    if faults:
        raise UserError(min(faults, key=lambda fault: fault[0])[1])


def _fault(choices: Choices, technique: Technique) -> str | None:
    """Why no config can be made; None where one of some random ones can."""
    reason: str | None = None
    for seed in range(TRIES):
        try:
            suggest_config(RandomTrial(seed), technique, choices)
            return None
        except InvalidCandidate as error:
            reason = reason or str(error)
        except (TypeError, ValueError, KeyError) as error:  # a config that compares what it did not check
            reason = reason or f"{type(error).__name__}: {error}"
    return reason
