"""The default sampler: Gaussian processes of accuracy and cost, and the hypervolume that a candidate would add."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nas_edge.samplers.gaussian_process import Array, GaussianProcess, Kernel, fit_kernel
from nas_edge.samplers.history import History, pareto_ranks, quality_and_cost
from nas_edge.samplers.improvement import expected_excess, expected_hypervolume_improvement, front
from nas_edge.samplers.parameters import Rows
from nas_edge.samplers.proposing import ProposingSampler

MOST_POINTS = 400  # that a process is conditioned on
MOST_FITTED = 160  # that its kernel is fitted to
REFIT = 1.3  # times as many trials as at the last fit
TAIL = 0.5  # of the range that matters: values beyond it are taken for no worse
NEIGHBOURS, FARTHER, CROSSED, RANDOM = 600, 600, 300, 300


class SurrogateSampler(ProposingSampler):
    """Bayesian optimisation for two objectives: the candidate with the largest expected hypervolume improvement.

    Quality (what is maximised, or the first objective) and cost each have a Gaussian process on all parameters, with
    their noise: what is observed counts, so an outlier is no promise. The hypervolume is that over the part of the
    front that matters: for each objective up to as far beyond the median of the random start as the best is before it.
    Constraints have a process too, whose probability of being met weighs the improvement (Gardner et al. 2014).
    Candidates are the neighbours of the front, farther relatives, crosses of its members, and random ones.
    """

    def propose(self, history: History, rng: np.random.Generator) -> Rows:
        candidates = history.unseen(_candidates(history, rng))
        if not len(candidates):
            return candidates
        features = history.parameters.features
        points, at = features.of(history.rows), features.of(candidates)
        gain = self._gain(history, points, at, rng)
        violations = history.violations
        known = ~np.isnan(violations)
        if known.any() and (violations[known] > 0).any():
            means, deviations = _predict(points[known], _winsorized(violations[known]), at, features.owner)
            met = ndtr(-means / deviations)
            gain = gain * met if (history.feasible & history.finished).any() else met
        best: Rows = candidates[np.argsort(-gain, kind="stable")]
        return best

    def _gain(self, history: History, points: Array, at: Array, rng: np.random.Generator) -> Array:
        """The expected improvement by each candidate."""
        owner, finished = history.parameters.features.owner, history.finished
        if history.losses.shape[1] == 1:
            losses = history.losses[:, 0]
            usable = losses[finished & history.feasible]
            means, deviations = _predict(points[finished], _winsorized(losses[finished]), at, owner)
            return expected_excess(float(usable.min()) if len(usable) else np.inf, means, deviations)
        losses = quality_and_cost(history.losses, history.maximised, rng)
        start = losses[finished][: self._start]
        best = losses[finished].min(axis=0)
        reference = _reference(losses[finished & history.feasible], start, best)
        limits = reference + TAIL * (reference - best)
        predicted = [self._predicted(history, points, np.minimum(losses[:, k], limits[k]), at, owner) for k in range(2)]
        means, deviations = (np.stack(parts, axis=1) for parts in zip(*predicted, strict=True))
        usable = losses[finished & history.feasible]
        return expected_hypervolume_improvement(means, deviations, usable, reference, _floor(best, reference))

    def _predicted(
        self, history: History, points: Array, values: Array, at: Array, owner: npt.NDArray[np.int64]
    ) -> tuple[Array, Array]:
        """Predictions of one objective. What still runs counts with what is expected of it (Ginsbourger 2010)."""
        finished = history.finished
        if history.running.any():
            values = values.copy()
            values[history.running], _ = _predict(points[finished], values[finished], points[history.running], owner)
            finished = finished | history.running
        return _predict(points[finished], values[finished], at, owner)


def _predict(points: Array, values: Array, at: Array, owner: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    kernel = _kernel(points, values, owner)
    chosen = _spread_out(values, MOST_POINTS)
    return GaussianProcess(points[chosen], values[chosen], owner, kernel).predict(at)


def _kernel(points: Array, values: Array, owner: npt.NDArray[np.int64]) -> Kernel:
    """The kernel of so many first trials that it is found anew only now and then, whoever asks."""
    count = len(points)
    fitted = min(count, 8)
    while round(fitted * REFIT) <= count:
        fitted = round(fitted * REFIT)
    chosen = _spread_out(values[:fitted], MOST_FITTED)
    return _fitted(points[:fitted][chosen].tobytes(), values[:fitted][chosen].tobytes(), tuple(owner.tolist()))


@functools.lru_cache(maxsize=16)
def _fitted(points: bytes, values: bytes, owner: tuple[int, ...]) -> Kernel:
    target = np.frombuffer(values)
    return fit_kernel(np.frombuffer(points).reshape(len(target), len(owner)), target, np.array(owner, dtype=np.int64))


def _spread_out(values: Array, most: int) -> npt.NDArray[np.int64]:
    """The indices of at most so many values: the lowest half of them, and an even choice of the rest."""
    if len(values) <= most:
        return np.arange(len(values))
    order = np.argsort(values, kind="stable")
    low, rest = order[: most // 2], order[most // 2 :]
    even = rest[np.linspace(0, len(rest) - 1, most - len(low)).round().astype(int)]
    return np.sort(np.concatenate([low, even]))


def _reference(usable: Array, start: Array, best: Array) -> Array:
    """Up to where the front counts. The best quality counts whatever it costs."""
    middle = np.median(start, axis=0)
    reference = middle + (middle - best)
    if len(usable):
        dearest = usable[np.lexsort((usable[:, 0], usable[:, 1]))[0], 0]
        reference[0] = max(reference[0], dearest + 0.05 * abs(dearest))
    return np.where(reference > best, reference, best + np.maximum(np.abs(best), 1.0) * 1e-3)


def _floor(best: Array, reference: Array) -> Array:
    """Below this no improvement counts: half the best of what is always positive, else a tenth of the range."""
    return np.where(best > 0, best / 2, best - 0.1 * (reference - best))


def _winsorized(values: Array) -> Array:
    """Values of which the largest are no larger than as far beyond the median as the least is before it, and half."""
    middle, least = float(np.median(values)), float(values.min())
    return np.minimum(values, middle + (1 + TAIL) * (middle - least)) if middle > least else values


def _candidates(history: History, rng: np.random.Generator) -> Rows:
    parameters = history.parameters
    usable = history.finished & history.feasible
    pool = np.flatnonzero(usable if usable.any() else history.finished)
    losses = history.losses[pool]
    best = pool[front(losses)] if losses.shape[1] == 2 else pool[pareto_ranks(losses) == 0]
    parents = history.rows[best]

    def some(count: int) -> Rows:
        return parents[rng.integers(len(parents), size=count)]

    return np.concatenate(
        [
            parameters.mutate(some(NEIGHBOURS), rng, np.ones(NEIGHBOURS, dtype=np.int64)),
            parameters.mutate(some(FARTHER), rng, rng.integers(2, 4, size=FARTHER)),
            parameters.cross(some(CROSSED), some(CROSSED), rng),
            parameters.random(rng, RANDOM),
        ]
    )
