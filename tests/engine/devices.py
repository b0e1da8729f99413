"""Devices for tests that look at how well latencies are predicted, and who listens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas_edge import Measurement, Target
from nas_edge.store.study import StoredStudy

from ..studies import Said, sha256

NOISE = (1.0, 1.01, 0.99, 1.05, 0.985, 1.015, 0.995, 1.005)  # one in eight is above the stated 2 %
MS_A_BYTE = 1e-5


class Device:
    """The bench with an error of its own for each measurement, in the order of `factors`."""

    def __init__(self) -> None:
        self.factors: Sequence[float] = NOISE
        self.unstable: set[int] = set()  # by the order of measurement
        self.ms: dict[str, float] = {}
        self.measured: list[str] = []

    def measure(self, target: Target, model: Path, budget_s: float) -> Measurement:
        index, name = len(self.measured), sha256(model)
        self.measured.append(name)
        ms = self.ms[name] = MS_A_BYTE * model.stat().st_size * self.factors[index % len(self.factors)]
        because = "the clock moves; fix its frequency" if index in self.unstable else None
        return Measurement(ms, ms, ms, ms, 10, target.name, target.fingerprint(), because)


class Hearing(Said):
    def __init__(self) -> None:
        super().__init__()
        self.results: list[str] = []

    def say(self, text: str) -> None:
        self.results.append(text)


class Board(Target):
    """A device whose latency follows from the work in the file, and whose speed can change."""

    name = "board"

    def __init__(self) -> None:
        self.speed = 1.0
        self.measured: list[str] = []

    def fingerprint(self) -> dict[str, Any]:
        return {"cpu": "board", "threads": 1}

    def measure(self, model: Path, budget_s: float) -> Measurement:
        self.measured.append(sha256(model))
        ms = (0.05 + MS_A_BYTE * model.stat().st_size) / self.speed
        return Measurement(ms, ms, ms, ms, 10, self.name, self.fingerprint())


def off_front(stored: StoredStudy) -> list[FrozenTrial]:
    front = {t.number for t in stored.front()}
    return [t for t in stored.trials(TrialState.COMPLETE) if t.number not in front]
