"""The default sampler: Gaussian processes of accuracy and cost, and the hypervolume that a candidate would add."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nas_edge.samplers.gaussian_process import Array, GaussianProcess, Kernel, fit_kernel
from nas_edge.samplers.history import History, pareto_ranks, quality_and_cost
from nas_edge.samplers.improvement import expected_excess, expected_hypervolume_improvement, front
from nas_edge.samplers.parameters import Rows, keys
from nas_edge.samplers.proposing import ProposingSampler

MOST_POINTS = 400  # that a process is conditioned on
MOST_FITTED = 160  # that its kernel is fitted to
REFIT = 1.3  # times as many trials as at the last fit
TAIL = 0.5  # of the range that matters: values beyond it are taken for no worse
CLIMBS, CLIMBERS, STEPS = 2, 10, 30
NEIGHBOURS, FARTHER, CROSSED, RANDOM = 600, 600, 300, 300


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
        gain = self._gain(history, rng)
        gains = gain(candidates)
        for _ in range(CLIMBS):
            best = candidates[np.argsort(-gains, kind="stable")[:CLIMBERS]]
            near = history.parameters.mutate(
                np.repeat(best, STEPS, axis=0), rng, np.ones(CLIMBERS * STEPS, dtype=np.int64)[: len(best) * STEPS]
            )
            near = history.unseen(near)
            seen = set(keys(candidates))
            near = near[[k not in seen for k in keys(near)]] if len(near) else near
            if not len(near):
                break
            candidates, gains = np.concatenate([candidates, near]), np.concatenate([gains, gain(near)])
        ranked: Rows = candidates[np.argsort(-gains, kind="stable")]
        return ranked

    def _gain(self, history: History, rng: np.random.Generator) -> Gain:
        """The expected improvement by candidates, as a function of their rows."""
        violations = history.violations
        known = ~np.isnan(violations)
        improvement = self._improvement(history, rng)
        if not known.any() or not (violations[known] > 0).any():
            return improvement
        missed = _process(history, known, _winsorized(violations))
        anything = (history.feasible & history.finished).any()

        def gain(rows: Rows) -> Array:
            means, deviations = missed(rows)
            met: Array = ndtr(-means / deviations)
            return improvement(rows) * met if anything else met

        return gain

    def _improvement(self, history: History, rng: np.random.Generator) -> Gain:
        finished, usable = history.finished, history.finished & history.feasible
        if history.losses.shape[1] == 1:
            losses = history.losses[:, 0]
            least = float(losses[usable].min()) if usable.any() else np.inf
            one = _process(history, finished, _winsorized(losses))
            return lambda rows: expected_excess(least, *one(rows))
        losses = quality_and_cost(history.losses, history.maximised, rng)
        best = losses[finished].min(axis=0)
        reference = _reference(losses[usable], losses[finished][: self._start], best)
        limits = reference + TAIL * (reference - best)
        processes = [self._process(history, np.minimum(losses[:, k], limits[k])) for k in range(2)]

        def improvement(rows: Rows) -> Array:
            means, deviations = (np.stack(parts, axis=1) for parts in zip(*(p(rows) for p in processes), strict=True))
            floor = _floor(best, reference)
            return expected_hypervolume_improvement(means, deviations, losses[usable], reference, floor)

        return improvement

    def _process(self, history: History, values: Array) -> Prediction:
        """Predicts one objective. What still runs counts with what is expected of it (Ginsbourger 2010)."""
        finished, running = history.finished, history.running
        if running.any():
            values = values.copy()
            values[running], _ = _process(history, finished, values)(history.rows[running])
            finished = finished | running
        return _process(history, finished, values)


def _process(history: History, known: npt.NDArray[np.bool_], values: Array) -> Prediction:
    """Predicts means and standard deviations of rows from the known values."""
    features = history.parameters.features
    points, values = features.of(history.rows[known]), values[known]
    kernel = _kernel(points, values, features.owner)
    chosen = _spread_out(values, MOST_POINTS)
    process = GaussianProcess(points[chosen], values[chosen], features.owner, kernel)
    return lambda rows: process.predict(features.of(rows))


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
    middle, least = float(np.nanmedian(values)), float(np.nanmin(values))
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
