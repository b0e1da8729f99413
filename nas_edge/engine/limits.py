"""How long a trial may take, and how much memory, before the process that supervises it ends it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import psutil
from optuna.trial import FrozenTrial

from nas_edge.config import StudyConfig
from nas_edge.store.study import is_evaluated

FIRST_TIMEOUT_S = 6 * 3600.0  # while nothing is known of how long a trial takes
LEAST_TIMEOUT_S, TIMES_THE_MEDIAN = 600.0, 20.0
TIMES_A_CALIBRATION = 10.0
MEMORY_SHARE = 0.9  # of the machine's, for all workers together
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class Limits(TypedDict):
    timeout_s: float
    memory_bytes: int


def limits(config: StudyConfig, trials: Sequence[FrozenTrial], budget: float = 1.0) -> Limits:
    """Those of the config, or what no sound trial needs. `budget` is that of a training, in units of a trial's."""
    timeout_s = _timeout_s(trials) if config.trial_timeout is None else config.trial_timeout
    return {"timeout_s": max(1.0, budget) * timeout_s, "memory_bytes": _memory_bytes(config)}


def calibration_limits(config: StudyConfig) -> Limits:
    """Those of the latency calibration."""
    timeout_s = max(LEAST_TIMEOUT_S, TIMES_A_CALIBRATION * config.calibration_seconds)
    return {"timeout_s": timeout_s, "memory_bytes": _memory_bytes(config)}


def machine_memory() -> int:
    """The memory of this machine, or of the container, in bytes."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # none, or "max"
        return total


def _memory_bytes(config: StudyConfig) -> int:
    if config.trial_memory_mb is not None:
        return config.trial_memory_mb * 1_000_000
    return round(MEMORY_SHARE * machine_memory() / config.workers)


def _timeout_s(trials: Sequence[FrozenTrial]) -> float:
    took = [t.duration.total_seconds() for t in trials if is_evaluated(t) and t.duration is not None]
    return max(LEAST_TIMEOUT_S, TIMES_THE_MEDIAN * statistics.median(took)) if took else FIRST_TIMEOUT_S
