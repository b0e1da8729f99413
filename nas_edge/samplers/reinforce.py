"""A policy that proposes candidates, learned from the stored trials by policy gradient."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nas_edge.samplers.history import History
from nas_edge.samplers.parameters import Parameter, Rows
from nas_edge.samplers.preferences import normalised, scalarised, spread_preference
from nas_edge.samplers.proposing import ProposingSampler

Array = npt.NDArray[np.float64]
LEVELS = 8  # of a parameter with more values: the policy chooses among them
RATE = 0.5
ENTROPY = 0.02
DRAWS = 16


class ReinforceSampler(ProposingSampler):
    """REINFORCE (Williams 1992) with a policy for all trade-offs between quality and cost.

    Each parameter has a softmax policy of its own, whose logits are linear in a preference between quality and cost.
    Every trial is asked with another preference. Its reward is its scalarised loss for that (see `preferences`),
    negated, against the mean over the trials before it as a baseline, in units of their deviation. A bonus on the
    entropy keeps the policy from settling early. The policy is learned from the trials in their order anew for each
    proposal, so nothing else is stored.
    """

    def propose(self, history: History, rng: np.random.Generator) -> Rows:
        policy = Policy(history.parameters.all)
        losses = normalised(history, rng)
        codes = policy.levels(history.rows)
        for index in range(1, len(history)):
            if np.isfinite(losses[index]).all():
                self._learn(policy, codes[index], losses[: index + 1], spread_preference(index))
        drawn = policy.draw(spread_preference(len(history)), rng, DRAWS)
        return history.parameters.complete(drawn, rng)

    def _learn(self, policy: Policy, levels: npt.NDArray[np.int64], losses: Array, wanted: float) -> None:
        rewards = -scalarised(losses, wanted)
        before = rewards[:-1][np.isfinite(rewards[:-1])]
        if not len(before):
            return
        advantage = (rewards[-1] - before.mean()) / (before.std() or 1.0)
        policy.reinforce(levels, wanted, float(np.clip(advantage, -3, 3)))


class Policy:
    """Independent softmax policies over the levels of each parameter, with logits linear in the preference."""

    def __init__(self, parameters: tuple[Parameter, ...]) -> None:
        self._parameters = parameters
        self._counts = np.array([min(p.count, p.count if p.is_categorical else LEVELS) for p in parameters], dtype=int)
        shape = (len(parameters), int(self._counts.max(initial=1)))
        self._open = np.arange(shape[1])[None] < self._counts[:, None]
        self._constant, self._slope = np.zeros(shape), np.zeros(shape)

    def probabilities(self, wanted: float) -> Array:
        """`[parameters, levels]` at a preference."""
        logits = np.where(self._open, self._constant + wanted * self._slope, -np.inf)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: Array = powers / powers.sum(axis=1, keepdims=True)
        return shares

    def reinforce(self, levels: npt.NDArray[np.int64], wanted: float, advantage: float) -> None:
        """One step along `advantage * grad log pi + ENTROPY * grad H`, for the parameters that were asked for."""
        shares = self.probabilities(wanted)
        asked = np.flatnonzero(levels >= 0)
        direction = np.zeros_like(shares)
        direction[asked, levels[asked]] = 1.0
        direction[asked] -= shares[asked]
        logs = np.log(np.maximum(shares, 1e-12))
        entropy = -(shares * logs).sum(axis=1, keepdims=True)
        calmer = np.where(self._open, -shares * (logs + entropy), 0.0)
        step = RATE * (advantage * direction + ENTROPY * calmer) / math.sqrt(max(1, len(asked)))
        self._constant += step
        self._slope += wanted * step

    def levels(self, rows: Rows) -> npt.NDArray[np.int64]:
        """The level of each parameter, -1 where it was not asked for."""
        found = np.full(rows.shape, -1, dtype=np.int64)
        for i, parameter in enumerate(self._parameters):
            there = ~np.isnan(rows[:, i])
            numbers = rows[there, i]
            found[there, i] = numbers if parameter.is_categorical else np.rint(numbers * (self._counts[i] - 1))
        return found

    def draw(self, wanted: float, rng: np.random.Generator, count: int) -> Rows:
        """Rows of a value for every parameter; between two levels of a number any value is as likely."""
        shares = self.probabilities(wanted).cumsum(axis=1)
        rows = np.empty((count, len(self._parameters)))
        for i, parameter in enumerate(self._parameters):
            levels = np.minimum((rng.random(count)[:, None] > shares[i]).sum(axis=1), self._counts[i] - 1)
            rows[:, i] = levels if parameter.is_categorical else _within(parameter, levels, int(self._counts[i]), rng)
        return rows


def _within(parameter: Parameter, levels: npt.NDArray[np.int64], count: int, rng: np.random.Generator) -> Array:
    numbers = levels / (count - 1)
    if parameter.count > count:
        numbers = np.clip(numbers + rng.uniform(-0.5, 0.5, len(levels)) / (count - 1), 0.0, 1.0)
    return np.array([parameter.encode(parameter.decode(number)) for number in numbers])
