"""The default sampler: Gaussian processes of accuracy and cost, and the hypervolume that a candidate would add."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nas_edge.samplers.gaussian_process import Array, GaussianProcess, Kernel, fit_kernel
from nas_edge.samplers.history import History, combination, pareto_ranks, quality_of
from nas_edge.samplers.improvement import expected_excess, expected_hypervolume_improvement, front
from nas_edge.samplers.parameters import Rows
from nas_edge.samplers.proposing import RANDOM_START, ProposingSampler

MOST_POINTS = 400  # that a process is conditioned on
MOST_FITTED = 320  # that its kernel is fitted to
LEAST_FITTED, REFIT = 8, 1.3  # trials of the first fit, and how many times as many each later one has
LEAST_CHANCE = 0.2  # of meeting the constraints: a promise that is broken so often is none
MARGIN = 0.05  # beyond the cost of the best quality
BEYOND = 2.0  # times as far beyond the median as the best is before it: what is worse counts as no worse
# Few: the best of all there are is where the processes are overconfident.
NEIGHBOURS, FARTHER, CROSSED, RANDOM = 200, 200, 100, 100

Gain = Callable[[Rows], Array]
Prediction = Callable[[Rows], tuple[Array, Array]]


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
        gains = self._gain(history, rng)(candidates)
        ranked: Rows = candidates[np.argsort(-gains, kind="stable")]
        return ranked

    def _gain(self, history: History, rng: np.random.Generator) -> Gain:
        """The expected improvement by candidates, as a function of their rows."""
        violations = history.violations
        known = ~np.isnan(violations)
        improvement = self._improvement(history, rng)
        if not known.any() or not (violations[known] > 0).any():
            return improvement
        process = regression(history, known, _winsorized(violations), _kernel(history, known, violations))
        missed = _predicting(history, process)
        anything = (history.feasible & history.finished).any()

        def gain(rows: Rows) -> Array:
            means, deviations = missed(rows)
            met: Array = ndtr(-means / deviations)
            return np.where(met < LEAST_CHANCE, met - 1, improvement(rows) * met) if anything else met

        return gain

    def _improvement(self, history: History, rng: np.random.Generator) -> Gain:
        finished, usable = history.finished, history.finished & history.feasible
        objectives = history.losses.shape[1]
        if objectives == 1:
            return self._improvement_of_one(history, 0)
        mixing = combination(history.losses, history.maximised, rng)
        losses = history.losses @ mixing.T
        best = losses[finished].min(axis=0)
        reference = _reference(losses[usable], losses[finished][: self._start], best)
        processes = [objective(history, k, self._start) for k in range(objectives)]

        def improvement(rows: Rows) -> Array:
            means, deviations = (np.stack(parts, axis=1) for parts in zip(*(p(rows) for p in processes), strict=True))
            means, deviations = means @ mixing.T, np.sqrt(deviations**2 @ (mixing**2).T)
            floor = _floor(best, reference)
            return expected_hypervolume_improvement(means, deviations, losses[usable], reference, floor)

        return improvement

    def _improvement_of_one(self, history: History, k: int) -> Gain:
        losses, usable = history.losses[:, k], history.finished & history.feasible
        least = float(losses[usable].min()) if usable.any() else np.inf
        one = objective(history, k, self._start)
        return lambda rows: expected_excess(least, *one(rows))


class ConstrainedSampler(SurrogateSampler):
    """Bayesian optimisation of the quality alone, under constraints (Gardner et al. 2014).

    For studies whose other objectives are only to be good enough, as their constraints say.
    """

    def _improvement(self, history: History, rng: np.random.Generator) -> Gain:
        _, quality = combination(history.losses, history.maximised, rng)
        return self._improvement_of_one(history, int(quality.argmax()))


def objective(history: History, k: int, start: int = RANDOM_START) -> Prediction:
    """Predicts one objective: means and standard deviations of what would be observed for rows.

    What is far worse than the median of the first `start` counts as less bad, but for the cost of the best quality.
    What still runs counts with what is expected of it (Ginsbourger 2010).
    """
    losses, quality = history.losses[:, k], history.losses[:, quality_of(history.maximised)]
    known, running = np.isfinite(losses), history.running & np.isnan(losses)
    kernel = _kernel(history, known, losses, start)
    dearest = losses[history.finished][quality[history.finished].argmin()]
    limit = _winsorized(losses[known], start).max()
    values = np.minimum(losses, max(limit, dearest + MARGIN * abs(dearest)))
    if running.any():
        values[running], _ = _predicting(history, regression(history, known, values, kernel))(history.rows[running])
        known = known | running
    return _predicting(history, regression(history, known, values, kernel))


def regression(
    history: History, known: npt.NDArray[np.bool_], values: Array, kernel: Kernel | None = None
) -> GaussianProcess:
    """The process of the known values, over the features of the study's parameters."""
    kernel = kernel or _kernel(history, known, values)
    features = history.parameters.features
    rows, values = history.rows[known], values[known]
    chosen = _spread_out(values, MOST_POINTS)
    return GaussianProcess(features.of(rows[chosen]), values[chosen], features.owner, kernel)


def _predicting(history: History, process: GaussianProcess) -> Prediction:
    """Means and standard deviations of rows."""
    return lambda rows: process.predict(history.parameters.features.of(rows))


def _kernel(history: History, known: npt.NDArray[np.bool_], values: Array, start: int | None = None) -> Kernel:
    """The kernel of so many first trials that it is found anew only now and then, whoever asks."""
    features, values = history.parameters.features, values[known]
    fitted = min(len(values), LEAST_FITTED)
    while round(fitted * REFIT) <= len(values):
        fitted = round(fitted * REFIT)
    values = _winsorized(values[:fitted], start)
    chosen = _spread_out(values, MOST_FITTED)
    points = features.of(history.rows[known][:fitted][chosen])
    return _fitted(points.tobytes(), values[chosen].tobytes(), tuple(features.owner.tolist()))


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
        reference[0] = max(reference[0], dearest + MARGIN * abs(dearest))
    return np.where(reference > best, reference, best + np.maximum(np.abs(best), 1.0) * 1e-3)


def _floor(best: Array, reference: Array) -> Array:
    """Below this no improvement counts: half the best of what is always positive, else a tenth of the range."""
    return np.where(best > 0, best / 2, best - 0.1 * (reference - best))


def _winsorized(values: Array, start: int | None = None) -> Array:
    """Values of which the largest are no larger than twice as far beyond the median as the least is before it.

    The median is that of the first `start`, where that is given: later ones are chosen.
    """
    middle, least = float(np.nanmedian(values[:start])), float(np.nanmin(values))
    return np.minimum(values, middle + BEYOND * (middle - least)) if middle > least else values


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
