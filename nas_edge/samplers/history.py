"""What a study holds, as numbers that samplers work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_edge.samplers.parameters import Parameters, Rows, keys
from nas_edge.spec import ENABLED

Array = npt.NDArray[np.float64]
UNDONE = "undone"  # the attribute of a trial: techniques that were on, and that its candidate does without
PARTIAL = "partial_values"  # likewise: of one that was not finished, what is known or expected of it, else None
USELESS = 1.0  # by how much a candidate misses what was wanted of it whose techniques were undone
HELD = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


@dataclass(frozen=True)
class History:
    """The trials of a study but for failed and waiting ones, oldest first.

    What was undone counts as off, for so the values came about. As it was asked for, the candidate has another row,
    which has no values and misses what was wanted of it.
    `losses` `[count, objectives]` are to be minimised, NaN where a trial has no finite value: one that was stopped may
    have some. `violations` `[count]` are the largest of a trial's constraints, NaN where it has none, and above 0 where
    it misses one.
    """

    parameters: Parameters
    rows: Rows
    losses: Array
    violations: Array
    running: npt.NDArray[np.bool_]
    maximised: tuple[bool, ...]

    @classmethod
    def of(cls, study: optuna.Study, trial: FrozenTrial | None = None) -> History:
        """All but `trial` itself, which is about to be sampled."""
        trials = [
            t
            for t in study.get_trials(deepcopy=False, states=HELD)
            if (trial is None or t.number != trial.number) and t.params
        ]
        parameters = Parameters(trials)
        maximised = tuple(d == StudyDirection.MAXIMIZE for d in study.directions)
        signs = np.where(maximised, -1.0, 1.0)
        losses = np.full((len(trials), len(maximised)), np.nan)
        violations = np.full(len(trials), np.nan)
        for i, held in enumerate(trials):
            losses[i] = signs * _values(held, len(signs))
            if held.constraints:
                violations[i] = max(held.constraints.values())
        running = np.array([t.state is TrialState.RUNNING for t in trials], dtype=bool)
        undone = [i for i, t in enumerate(trials) if t.user_attrs.get(UNDONE)]
        rows = parameters.rows.copy()
        rows[undone] = parameters.encode([effective_params(trials[i]) for i in undone])
        history = cls(parameters, rows, losses, violations, running, maximised)
        return history._with_useless(parameters.rows[undone]) if undone else history

    def _with_useless(self, rows: Rows) -> History:
        """With rows that came to nothing. Those that came to something miss nothing, where no constraint says so."""
        count, objectives = len(rows), self.losses.shape[1]
        known = np.where(np.isnan(self.violations) & self.finished, -USELESS, self.violations)
        return replace(
            self,
            rows=np.concatenate([self.rows, rows]),
            losses=np.concatenate([self.losses, np.full((count, objectives), np.nan)]),
            violations=np.concatenate([known, np.full(count, USELESS)]),
            running=np.concatenate([self.running, np.zeros(count, dtype=bool)]),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def finished(self) -> npt.NDArray[np.bool_]:
        """Which trials have all values."""
        return np.asarray(np.isfinite(self.losses).all(axis=1))

    @property
    def feasible(self) -> npt.NDArray[np.bool_]:
        """Which trials miss no constraint, as far as is known."""
        return ~(self.violations > 0)

    def unseen(self, rows: Rows) -> Rows:
        """The rows that no trial has had, each once."""
        seen = set(keys(self.rows))
        kept = []
        for i, key in enumerate(keys(rows)):
            if key not in seen:
                seen.add(key)
                kept.append(i)
        return rows[kept]


def _values(trial: FrozenTrial, objectives: int) -> Array:
    """The values of a trial, NaN for those that it lacks; a finished one has all or none."""
    none = np.full(objectives, np.nan)
    if trial.state is TrialState.COMPLETE:
        values = np.array(trial.values)
        return values if np.isfinite(values).all() else none
    values = np.array(trial.user_attrs.get(PARTIAL, none), dtype=float)  # None is read as NaN
    return np.where(np.isfinite(values), values, np.nan)


def effective_params(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters of a trial with what was undone switched off."""
    params = trial.params
    for name in trial.user_attrs.get(UNDONE, ()):
        switch = f"{name}.{ENABLED}"
        params = {n: value for n, value in params.items() if not n.startswith(f"{name}.")}
        params |= {switch: False} if switch in trial.params else {}
    return params


def pareto_ranks(losses: Array) -> npt.NDArray[np.int64]:
    """The non-domination rank of each point `[count, objectives]`, 0 for the front (Deb et al. 2002, section III A)."""
    ranks = np.full(len(losses), -1, dtype=np.int64)
    left = np.arange(len(losses))
    rank = 0
    while len(left):
        points = losses[left]
        no_worse = (points[:, None] <= points[None]).all(axis=2)
        better = (points[:, None] < points[None]).any(axis=2)
        dominated = (no_worse & better).any(axis=0)
        ranks[left[~dominated]] = rank
        left, rank = left[dominated], rank + 1
    return ranks


def quality_and_cost(losses: Array, maximised: Sequence[bool], rng: np.random.Generator) -> Array:
    """Losses of many objectives as two: that of all costs together, and that of quality."""
    two: Array = losses @ combination(losses, maximised, rng).T
    return two


def quality_of(maximised: Sequence[bool]) -> int:
    """Which objective is quality: the one that is maximised, or the first."""
    return list(maximised).index(True) if sum(maximised) == 1 else 0


def combination(losses: Array, maximised: Sequence[bool], rng: np.random.Generator) -> Array:
    """The weights `[2, objectives]` of all costs together, and of quality.

    Several costs are weighed at random, each in units of its
    own spread, so that over many draws each front of two is advanced (Knowles 2006, ParEGO).
    """
    objectives, quality = losses.shape[1], quality_of(maximised)
    costs = [k for k in range(objectives) if k != quality]
    weights = np.zeros((2, objectives))
    weights[1, quality] = 1.0
    weights[0, costs] = 1.0
    if len(costs) > 1:
        spread = np.array([np.nanstd(losses[:, k]) or 1.0 for k in costs])
        weights[0, costs] = rng.dirichlet(np.ones(len(costs))) / spread
    return weights
