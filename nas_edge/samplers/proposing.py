"""The base of our samplers: one decides all parameters of a candidate at once, from the history alone."""

from __future__ import annotations

import functools
import warnings
import zlib
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from threadpoolctl import ThreadpoolController

from nas_edge.samplers.history import History
from nas_edge.samplers.parameters import Parameter, Rows

RANDOM_START = 24  # candidates, with those that were turned down
LEAST_FINISHED = 4
TRIES = 64


@functools.cache
def _linear_algebra() -> ThreadpoolController:
    """For one thread: more are no faster on some hundreds of points, and round otherwise on other machines."""
    return ThreadpoolController()


class ProposingSampler(optuna.samplers.BaseSampler):
    """Proposes candidates that the study does not hold, the first `start` of them at random.

    It keeps nothing between trials: the same seed and history give the same proposal. A parameter that no trial had
    before is drawn at random. Where a space is so small that all of it was tried, repeats cannot be avoided.
    """

    def __init__(self, seed: int, start: int = RANDOM_START) -> None:
        self._seed, self._start = seed, start
        self._held = 0  # trials in the history of the one that is sampled
        self._proposal: dict[str, Any] = {}

    def propose(self, history: History, rng: np.random.Generator) -> Rows:
        """Candidates `[count, parameters]`, the most wanted first; some may be held already."""
        raise NotImplementedError

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        history = History.of(study, trial)
        self._held, self._proposal = len(history), {}
        if not len(history) or not len(history.parameters):
            return {}
        rng = np.random.default_rng((self._seed, len(history)))
        found = self._first_unseen(history, rng)
        self._proposal = history.parameters.decode(found)
        known = {parameter.name: parameter.distribution for parameter in history.parameters.all}
        return {name: known[name] for name in self._proposal}

    def _first_unseen(self, history: History, rng: np.random.Generator) -> Any:
        drawn = history.parameters.random(rng, TRIES)
        if len(history) - history.running.sum() >= self._start and history.finished.sum() >= LEAST_FINISHED:
            with warnings.catch_warnings(), _linear_algebra().limit(limits=1, user_api="blas"):
                warnings.simplefilter("error", RuntimeWarning)
                drawn = np.concatenate([self.propose(history, rng), drawn])
        unseen = history.unseen(drawn)
        return unseen[0] if len(unseen) else drawn[0]

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._proposal

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        parameter = Parameter(param_name, param_distribution)
        rng = np.random.default_rng((self._seed, self._held, zlib.crc32(param_name.encode())))
        return parameter.decode(parameter.draw(rng, 1)[0])

    def reseed_rng(self) -> None:
        self._seed = int(np.random.SeedSequence().generate_state(1)[0])
