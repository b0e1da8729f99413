"""The gate: which steps stand. A technique stays where it makes the file faster or smaller, at little accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas_edge.config import MAX_DROP
from nas_edge.figures import Look

LEAST_DROP = 1e-4  # of accuracy, that any number of images could tell
MIN_GAIN = 0.01  # less is lost in what predictions and measurements err by


@dataclass
class Effect:
    """What a technique did so far, as ratios of after to before; None where that is not known.

    A technique that acts at several stages has the product of the changes at each of them, and of the trainings in
    between.
    """

    latency: float | None = None
    size: float | None = None
    compressed: float | None = None

    def add(self, before: Look, after: Look) -> None:
        old, new = before.figures, after.figures
        self.latency = _times(self.latency, _latency_ratio(before, after))
        self.size = _times(self.size, _ratio(old.size_bytes, new.size_bytes))
        self.compressed = _times(self.compressed, _ratio(old.compressed_bytes, new.compressed_bytes))


@dataclass(frozen=True)
class Gate:
    """`max_drop` is the accuracy, as a fraction, that one step may cost; `min_gain` the share by which a file must be
    faster or smaller."""

    max_drop: float = MAX_DROP / 100
    min_gain: float = MIN_GAIN

    @property
    def images(self) -> int:
        """How many images tell `max_drop` from chance: three standard errors of the difference of two accuracies,
        `3 sqrt(2 p (1 - p) / n)`, at most (p = 1/2)."""
        return math.ceil(2 * 0.25 * (3 / max(self.max_drop, LEAST_DROP)) ** 2)

    def useless(self, effect: Effect) -> str | None:
        """Why a technique gains nothing; None where it gains, or where that is not known."""
        ratios = (effect.latency, effect.size, effect.compressed)
        known = [ratio for ratio in ratios if ratio is not None]
        if len(known) < len(ratios) or min(known) <= 1 - self.min_gain:
            return None
        latency, size, compressed = (f"{ratio - 1:+.1%}" for ratio in known)
        return f"neither faster (latency {latency}) nor smaller (file {size}, compressed {compressed})"

    def too_costly(self, before: float | None, after: float | None, when: str = "") -> str | None:
        """Why a step costs too much accuracy; None where it does not, or where that is not known."""
        if before is None or after is None or before - after <= self.max_drop + 1e-9:
            return None
        return f"accuracy {before:.1%} -> {after:.1%}{when}, more than {100 * self.max_drop:.3g} points lost"


def _latency_ratio(before: Look, after: Look) -> float | None:
    old, new = before.latency, after.latency
    if old is None or new is None or old.source != new.source:
        return None
    apart = new.high_ms < old.low_ms or new.low_ms > old.high_ms
    if old.source == "measured" and not apart:  # the noise of measurements is no gain
        return 1.0
    return new.ms / old.ms


def _ratio(before: int | None, after: int | None) -> float | None:
    return None if before is None or after is None else after / before


def _times(ratio: float | None, another: float | None) -> float | None:
    return ratio if another is None else another * (1.0 if ratio is None else ratio)
