"""What a compression is to reach, and how close a candidate comes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

TOLERANCE = 1e-9
DROP, LATENCY, SPEEDUP, REDUCTION = "accuracy drop", "latency", "speedup", "size reduction"


class Goals(BaseModel):
    """The goals of `nas-edge compress`; None is no goal. All are held against the model as it was given."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    max_drop: float | None = Field(0.5, ge=0, le=100, description="accuracy that may be lost, in points")
    max_latency_ms: float | None = Field(None, gt=0, description="latency on the target, in ms")
    min_speedup: float | None = Field(None, gt=1, description="latency of the given model by that of the result")
    min_size_reduction: float | None = Field(
        None, gt=0, lt=100, description="per cent by which the file is to be smaller"
    )

    @property
    def end(self) -> bool:
        """Whether they can be reached for good: a drop alone can always be made good use of."""
        return any(goal is not None for goal in (self.max_latency_ms, self.min_speedup, self.min_size_reduction))


@dataclass(frozen=True)
class Known:
    """What is known of a model: its accuracy as a fraction, its latency and the bytes of its file."""

    accuracy: float
    latency_ms: float
    size_bytes: int


@dataclass(frozen=True)
class Goal:
    """One goal as a candidate stands to it.

    `wanted` and `reached` are in `unit`; `missing` is what is missing between them, 0 where it is met. `excess` says
    how far it is missed in units that compare: as a share of what is wanted, points of accuracy as a share of the drop
    that is allowed, or of one point where that is less. It is negative by as much as there is to spare.
    """

    name: str
    unit: str
    wanted: float
    reached: float
    excess: float

    @property
    def met(self) -> bool:
        return self.excess <= TOLERANCE

    @property
    def missing(self) -> float:
        return 0.0 if self.met else abs(self.reached - self.wanted)


def judge(goals: Goals, given: Known, found: Known) -> list[Goal]:
    """How a candidate stands to each goal."""
    judged = []
    if goals.max_drop is not None:
        drop = 100 * (given.accuracy - found.accuracy)
        judged.append(_goal(DROP, "points", goals.max_drop, drop, (drop - goals.max_drop) / max(goals.max_drop, 1.0)))
    if goals.max_latency_ms is not None:
        over = found.latency_ms / goals.max_latency_ms - 1
        judged.append(_goal(LATENCY, "ms", goals.max_latency_ms, found.latency_ms, over))
    if goals.min_speedup is not None:
        speedup = given.latency_ms / found.latency_ms
        judged.append(_goal(SPEEDUP, "times", goals.min_speedup, speedup, goals.min_speedup / speedup - 1))
    if goals.min_size_reduction is not None:
        left, limit = found.size_bytes / given.size_bytes, 1 - goals.min_size_reduction / 100
        judged.append(_goal(REDUCTION, "%", goals.min_size_reduction, 100 * (1 - left), left / limit - 1))
    return judged


def _goal(name: str, unit: str, wanted: float, reached: float, excess: float) -> Goal:
    return Goal(name, unit, float(wanted), float(reached), float(excess))


def all_met(judged: Iterable[Goal]) -> bool:
    return all(goal.met for goal in judged)


def total_excess(judged: Iterable[Goal]) -> float:
    """How far a candidate is from meeting all goals; 0 where it does."""
    return sum(goal.excess for goal in judged if not goal.met)
