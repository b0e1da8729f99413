"""What a search space or a technique samples from, found by sampling it. Imports neither torch nor Optuna."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

DRAWS = 200  # enough to meet every conditional parameter that comes up in at least 3 % of the draws


class Recorder:
    """Draws at random, without torch or Optuna, and keeps what it was asked for, and how often."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.seen: dict[str, dict[str, Any]] = {}
        self.counts: dict[str, int] = {}

    def _keep(self, name: str, **what: Any) -> None:
        self.seen.setdefault(name, {"name": name, **what})
        self.counts[name] = self.counts.get(name, 0) + 1

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self._keep(name, type="int", low=low, high=high, step=step, log=log)
        return self.rng.randrange(low, high + 1, step)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self._keep(name, type="float", low=low, high=high, step=step, log=log)
        return low + step * self.rng.randint(0, int((high - low) / step)) if step else self.rng.uniform(low, high)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self._keep(name, type="categorical", choices=list(choices))
        return self.rng.choice(list(choices))


def described(row: Mapping[str, Any]) -> str:
    """The values of a recorded parameter in words: `3 to 7, step 2`, `True | False`."""
    if row["type"] == "categorical":
        return " | ".join(map(str, row["choices"]))
    step = f", step {row['step']}" if row["step"] not in (None, 1) else ""
    return f"{row['low']} to {row['high']}{step}{', log' if row['log'] else ''}"
