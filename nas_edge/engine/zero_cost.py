"""What scores before training say of a study's candidates: as much as they have been seen to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from optuna.trial import FrozenTrial
from scipy.optimize import isotonic_regression
from scipy.stats import kendalltau

from nas_edge.store.study import is_evaluated

SCORES = "scores"  # the attribute of a trial: its scores by name
LEAST = 16  # finished candidates, before a score counts
LEAST_TAU, LEVEL = 0.3, 0.01  # a score that ranks no better, or by chance as well, is not used


class Ranking(NamedTuple):
    """How well a score ranks the accuracies of finished candidates: Kendall's tau-b, and how probable by chance."""

    score: str
    tau: float
    p_value: float

    @property
    def usable(self) -> bool:
        return self.tau >= LEAST_TAU and self.p_value <= LEVEL


def rankings(trials: Sequence[FrozenTrial]) -> list[Ranking]:
    """That of each score, the best first; none before enough candidates are finished."""
    scored = _scored(trials)
    if len(scored) < LEAST:
        return []
    found = []
    for name in scored[0].user_attrs[SCORES]:
        ranked = kendalltau([t.user_attrs[SCORES][name] for t in scored], [t.values[0] for t in scored])
        tau = float(ranked.statistic)
        found.append(Ranking(name, 0.0, 1.0) if math.isnan(tau) else Ranking(name, tau, float(ranked.pvalue)))
    return sorted(found, key=lambda ranking: -ranking.tau)


def plausible_accuracy(trials: Sequence[FrozenTrial], scores: Mapping[str, float], deviations: float) -> float:
    """Up to so many standard deviations above what the best score lets expect; 1 where none ranks.

    Expected is what isotonic regression makes of the finished candidates.
    """
    best = next(iter(rankings(trials)), None)
    if best is None or not best.usable:
        return 1.0
    known = np.array([(t.user_attrs[SCORES][best.score], t.values[0]) for t in _scored(trials)])
    known = known[np.argsort(known[:, 0], kind="stable")]
    fitted = isotonic_regression(known[:, 1]).x
    spread = float(np.sqrt(np.mean((known[:, 1] - fitted) ** 2)))
    expected = float(np.interp(scores[best.score], known[:, 0], fitted))
    return min(1.0, expected + deviations * spread)


def describe(trials: Sequence[FrozenTrial]) -> str | None:
    """How well the scores of a study rank, in one line; None where that is not known."""
    found = rankings(trials)
    if not found:
        return None
    said = ", ".join(f"{r.score} {r.tau:.2f}" for r in found)
    use = f"{found[0].score} is used" if found[0].usable else "none is used"
    return f"scores before training rank {len(_scored(trials))} trained accuracies with Kendall tau {said}; {use}"


def _scored(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [t for t in trials if is_evaluated(t) and SCORES in t.user_attrs]
