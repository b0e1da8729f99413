"""When a search has got far enough: `accuracy >= 0.92 and latency_ms <= 2`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

AT_LEAST, AT_MOST = ">=", "<="
SIGNS = {"accuracy": AT_LEAST, "latency_ms": AT_MOST, "size_bytes": AT_MOST}  # which way is better
CONDITION = re.compile(r"\s*(\w+)\s*(\S+?)\s*([-+.\w]+)\s*")
EXAMPLE = "accuracy >= 0.92 and latency_ms <= 2"


@dataclass(frozen=True)
class Condition:
    """What one figure of a candidate is to reach."""

    name: str
    value: float

    def met(self, found: float) -> bool:
        return found >= self.value if SIGNS[self.name] == AT_LEAST else found <= self.value


@dataclass(frozen=True)
class Until:
    """What one candidate is to reach, all of it."""

    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, text: str) -> Until:
        """Conditions joined by `and`. Raises `ValueError` with what is wrong and what would do."""
        conditions = tuple(_condition(part) for part in re.split(r"\band\b", text))
        names = [condition.name for condition in conditions]
        if len(set(names)) < len(names):
            raise ValueError(f"a figure is named twice in {text!r}; name each once, as in {EXAMPLE!r}")
        return cls(conditions)

    def met(self, found: Mapping[str, float]) -> bool:
        return all(condition.met(found[condition.name]) for condition in self.conditions)


def _condition(text: str) -> Condition:
    parts = CONDITION.fullmatch(text)
    if parts is None or parts[1] not in SIGNS or parts[2] != SIGNS[parts[1]]:
        known = ", ".join(f"{name} {sign} NUMBER" for name, sign in SIGNS.items())
        raise ValueError(f"{text.strip()!r} is no condition; join some of {known} by 'and'")
    name = parts[1]
    try:
        value = float(parts[3])
    except ValueError:
        value = math.nan
    top = 1.0 if name == "accuracy" else math.inf
    if not (0 < value <= top and math.isfinite(value)):
        wanted = "a share above 0, at most 1" if name == "accuracy" else "a number above 0"
        raise ValueError(f"{parts[3]!r} in {text.strip()!r} is not {wanted}")
    return Condition(name, value)
