"""Gradients through a relaxation of the choices."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from nas_edge.samplers.gaussian_process import GaussianProcess
from nas_edge.samplers.history import History
from nas_edge.samplers.parameters import Parameters, Rows
from nas_edge.samplers.preferences import normalised, scalarised, scalarised_slopes, spread_preference
from nas_edge.samplers.proposing import ProposingSampler
from nas_edge.samplers.surrogate import regression

Array = npt.NDArray[np.float64]
STARTS, DRAWS = 8, 8  # descents from the best candidates and as many random ones; candidates drawn after each
STEPS, RATE = 40, 0.15
SHARP = 3.0  # the logit that a candidate's own choice starts with
SPREAD = 0.05  # of the numbers that are drawn
MOMENTUM, SCALING = 0.9, 0.99  # of Adam (Kingma & Ba 2015, algorithm 1)


class GradientSampler(ProposingSampler):
    """Gradient descent on relaxed choices, with the cost in the loss.

    A choice among categories is relaxed to a softmax over them and a number to a sigmoid (Liu et al. 2019, DARTS).
    What such a mixture costs and is worth is the mean of Gaussian processes on the study's trials, which is smooth in
    the relaxed choices (as Luo et al. 2018 descend a learned predictor). Each trial is asked with another preference
    between quality and cost, by which their predictions become one loss (see `preferences`): so the candidates lie
    along the trade-off. Those proposed are drawn from the distributions that the descents end in.
    """

    def propose(self, history: History, rng: np.random.Generator) -> Rows:
        losses, known = normalised(history, rng), history.finished
        preference = spread_preference(len(history))
        processes = [regression(history, known, values) for values in losses.T]
        relaxation = Relaxation(history.parameters)

        order = np.argsort(np.where(known, scalarised(losses, preference), np.inf), kind="stable")
        best = history.rows[order[: min(STARTS, int(known.sum()))]]
        logits = relaxation.logits(np.concatenate([best, history.parameters.random(rng, STARTS)]))
        logits = descend(logits, relaxation, processes, preference)

        drawn = history.parameters.complete(relaxation.draw(np.repeat(logits, DRAWS, axis=0), rng), rng)
        points = history.parameters.features.of(drawn)
        expected = np.stack([process.predict(points)[0] for process in processes], axis=1)
        ranked: Rows = drawn[np.argsort(scalarised(expected, preference), kind="stable")]
        return ranked


def descend(logits: Array, relaxation: Relaxation, processes: list[GaussianProcess], preference: float) -> Array:
    """Logits `[count, features]` after some steps of Adam on the scalarised predictions."""
    mean, square = np.zeros_like(logits), np.zeros_like(logits)
    for step in range(1, STEPS + 1):
        found = [process.slopes(relaxation.points(logits)) for process in processes]
        values, slopes = (np.stack(parts, axis=1) for parts in zip(*found, strict=True))
        along = scalarised_slopes(values, preference)
        gradient = relaxation.backward(logits, (along[:, :, None] * slopes).sum(axis=1))
        mean = MOMENTUM * mean + (1 - MOMENTUM) * gradient
        square = SCALING * square + (1 - SCALING) * gradient**2
        root = np.sqrt(square / (1 - SCALING**step)) + 1e-8
        logits = logits - RATE * mean / (1 - MOMENTUM**step) / root
    return logits


class Relaxation:
    """Logits `[count, features]` for rows: a softmax over each parameter's categories, a sigmoid for each number."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        owner = parameters.features.owner
        self._categorical = np.array([parameters.all[i].is_categorical for i in owner], dtype=bool)
        # The processes see a category as a corner: two of them are then as far apart as the ends of a number.
        self._scale = np.where(self._categorical, math.sqrt(0.5), 1.0)
        self._first = np.flatnonzero(np.diff(owner, prepend=-1))
        self._group = owner

    def logits(self, rows: Rows) -> Array:
        """Those of mixtures that are mostly the given rows; what is not asked for is undecided."""
        points = self._parameters.features.of(rows)
        numbers = np.clip(points, 0.02, 0.98)
        found: Array = np.where(self._categorical, SHARP * (points > 0), np.log(numbers / (1 - numbers)))
        return found

    def shares(self, logits: Array) -> Array:
        """The share of each category in its mixture, and the place in 0..1 of each number."""
        highest = np.maximum.reduceat(logits, self._first, axis=1)[:, self._group]
        powers = np.exp(logits - highest)
        mixed = powers / np.add.reduceat(powers, self._first, axis=1)[:, self._group]
        found: Array = np.where(self._categorical, mixed, expit(logits))
        return found

    def points(self, logits: Array) -> Array:
        """What the processes are asked for: mixtures of the points of the categories."""
        return self._scale * self.shares(logits)

    def backward(self, logits: Array, slopes: Array) -> Array:
        """The derivatives by the logits, given those by the points."""
        shares = self.shares(logits)
        slopes = self._scale * slopes
        expected = np.add.reduceat(shares * slopes, self._first, axis=1)[:, self._group]
        found: Array = shares * np.where(self._categorical, slopes - expected, slopes * (1 - shares))
        return found

    def draw(self, logits: Array, rng: np.random.Generator) -> Rows:
        """A row from each mixture, with every parameter: categories by their shares, numbers near theirs."""
        shares = self.shares(logits)
        chances = np.where(self._categorical, np.log(np.maximum(shares, 1e-12)) + rng.gumbel(size=shares.shape), shares)
        rows = np.empty((len(logits), len(self._parameters)))
        for i, parameter in enumerate(self._parameters.all):
            own = chances[:, self._group == i]
            if parameter.is_categorical:
                rows[:, i] = own.argmax(axis=1)
            else:
                near = np.clip(own[:, 0] + rng.normal(0, SPREAD, len(own)), 0.0, 1.0)
                rows[:, i] = [parameter.encode(parameter.decode(number)) for number in near]
        return rows
