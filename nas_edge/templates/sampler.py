"""example: a good trial with some of its parameters drawn anew."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_edge import hookimpl

RANDOM_TRIALS = 10
KEPT = 0.8  # of the parameters


class Example(optuna.samplers.BaseSampler):
    """Good trials with some parameters drawn anew.

    All that it knows is in the stored trials: it is made anew for each, by any of many workers.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._parent: dict[str, Any] = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Asked once for each trial: choose the one to begin with."""
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        self._parent = {}
        if len(done) >= RANDOM_TRIALS:
            one, other = self._draws(trial, "parent").sample(done, 2)
            self._parent = (other if _dominates(study, other, one) else one).params
        return {}

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        draws = self._draws(trial, param_name)
        if param_name in self._parent and draws.random() < KEPT:
            return self._parent[param_name]
        anew = optuna.samplers.RandomSampler(seed=draws.randrange(2**32))
        return anew.sample_independent(study, trial, param_name, param_distribution)

    def _draws(self, trial: FrozenTrial, what: str) -> random.Random:
        return random.Random(f"{self._seed} {trial.number} {what}")


def _dominates(study: optuna.Study, one: FrozenTrial, other: FrozenTrial) -> bool:
    signs = [1 if direction is StudyDirection.MINIMIZE else -1 for direction in study.directions]
    pairs = [(sign * a, sign * b) for sign, a, b in zip(signs, one.values, other.values, strict=True)]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


@hookimpl
def register_samplers(register: Callable[[str, Callable[[int], optuna.samplers.BaseSampler]], None]) -> None:
    register("example", Example)
