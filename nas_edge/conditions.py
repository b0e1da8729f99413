"""Conditions on the figures of a trial: `accuracy >= 0.92 and latency_ms <= 2`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

AT_LEAST, AT_MOST = ">=", "<="
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    AT_LEAST: operator.ge,
    AT_MOST: operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
BETTER = {"accuracy": AT_LEAST, "latency_ms": AT_MOST, "size_bytes": AT_MOST}  # which way is better
CONDITION = re.compile(r"\s*(\w+)\s*([^\w\s]+?)\s*([-+.\w]+)\s*")
EXAMPLE = "accuracy >= 0.92 and latency_ms <= 2"


@dataclass(frozen=True)
class Condition:
    """What one figure is to be."""

    name: str
    sign: str
    value: float

    def met(self, found: float | None) -> bool:
        """Never by what is not known."""
        return found is not None and SIGNS[self.sign](found, self.value)


@dataclass(frozen=True)
class Until:
    """What one candidate is to reach, all of it, to end a search."""

    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, text: str) -> Until:
        """Conditions joined by `and`. Raises `ValueError` with what is wrong and what would do."""
        known = ", ".join(f"{name} {sign} NUMBER" for name, sign in BETTER.items())
        conditions = _parse(text, BETTER.items(), f"join some of {known} by 'and'", _unreachable)
        names = [condition.name for condition in conditions]
        if len(set(names)) < len(names):
            raise ValueError(f"a figure is named twice in {text!r}; name each once, as in {EXAMPLE!r}")
        return cls(conditions)

    def met(self, found: Mapping[str, float]) -> bool:
        return all(condition.met(found[condition.name]) for condition in self.conditions)


@dataclass(frozen=True)
class Where:
    """Which trials are meant: those that meet every condition."""

    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, text: str, figures: Collection[str]) -> Where:
        """Conditions on such figures, joined by `and`. Raises `ValueError` with what is wrong and what would do."""
        allowed = [(name, sign) for name in figures for sign in SIGNS]
        remedy = f"write FIGURE SIGN NUMBER, with a figure of {', '.join(figures)} and a sign of {' '.join(SIGNS)}"
        return cls(_parse(text, allowed, f"{remedy}; join several by 'and'", _no_number))

    def met(self, found: Mapping[str, float | None]) -> bool:
        return all(condition.met(found[condition.name]) for condition in self.conditions)


def _parse(
    text: str, allowed: Collection[tuple[str, str]], remedy: str, fault: Callable[[str, float], str]
) -> tuple[Condition, ...]:
    """`fault` says what a value should be that is not; one that is no number comes as NaN."""
    conditions = []
    for part in re.split(r"\band\b", text):
        found = CONDITION.fullmatch(part)
        if found is None or (found[1], found[2]) not in allowed:
            raise ValueError(f"{part.strip()!r} is no condition; {remedy}")
        try:
            value = float(found[3])
        except ValueError:
            value = math.nan
        if wanted := fault(found[1], value):
            raise ValueError(f"{found[3]!r} in {part.strip()!r} is not {wanted}")
        conditions.append(Condition(found[1], found[2], value))
    return tuple(conditions)


def _unreachable(name: str, value: float) -> str:
    share = name == "accuracy"
    if math.isfinite(value) and 0 < value <= (1.0 if share else math.inf):
        return ""
    return "a share above 0, at most 1" if share else "a number above 0"


def _no_number(name: str, value: float) -> str:
    return "" if math.isfinite(value) else "a number"
