"""Aging evolution for several objectives."""

from __future__ import annotations

import numpy as np

from nas_edge.samplers.history import History
from nas_edge.samplers.parameters import Rows
from nas_edge.samplers.preferences import normalised, scalarised
from nas_edge.samplers.proposing import ProposingSampler

POPULATION, TOURNAMENT = 16, 8
CHILDREN = 16


class EvolutionSampler(ProposingSampler):
    """Aging evolution (Real et al. 2019, algorithm 1): mutate the winner of a tournament among the youngest candidates.

    The population is the last `POPULATION` finished trials, whatever they are worth: the oldest dies. Each tournament
    has a preference between quality and cost of its own (see `preferences`), drawn at random, so that the winners lie
    along the front. One parameter of a winner is changed; more where the study holds all such children.
    """

    def propose(self, history: History, rng: np.random.Generator) -> Rows:
        alive = np.flatnonzero(history.finished)[-POPULATION:]
        losses = normalised(history, rng)[alive]
        winners = []
        for _ in range(CHILDREN):
            drawn = rng.choice(len(alive), min(TOURNAMENT, len(alive)), replace=False)
            winners.append(alive[drawn[np.argmin(scalarised(losses[drawn], rng.uniform(-1, 1)))]])
        changes = 1 + np.arange(CHILDREN) // (CHILDREN // 4)
        return history.parameters.mutate(history.rows[winners], rng, changes)
