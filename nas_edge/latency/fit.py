"""Fits the latency model to whole networks that were measured, and says how wrong it is on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from nas_edge.latency.graph import FEATURES, Work
from nas_edge.latency.model import Correction, LatencyModel, network_features

Array = npt.NDArray[np.float64]
FOLDS = 5
INNER_FOLDS = 3
SHRINKAGE = 0.003  # towards the roofline, per network
CORRECTION_RIDGE = 0.3  # per network, on standardised features
GAIN = 0.97  # a correction has to lower the cross-validated error to this share to be worth its freedom


@dataclass(frozen=True)
class HeldOutError:
    """Relative errors |predicted / measured - 1| on networks that the model was not fitted on."""

    median: float
    q90: float
    within5: float
    within10: float
    networks: int

    @classmethod
    def of(cls, errors: Array) -> HeldOutError:
        size = np.abs(errors)
        return cls(
            median=float(np.median(size)),
            q90=float(np.quantile(size, 0.9)),
            within5=float(np.mean(size <= 0.05)),
            within10=float(np.mean(size <= 0.10)),
            networks=len(size),
        )


def fit(works: Sequence[Work], latency_ms: Sequence[float] | Array) -> LatencyModel:
    """The model of measured networks; whether it has a correction is decided by cross-validation."""
    measured = np.asarray(latency_ms, dtype=float)
    plain = _loss(cross_errors(works, measured, fit_sum, INNER_FOLDS))
    corrected = _loss(cross_errors(works, measured, fit_corrected, INNER_FOLDS))
    return (fit_corrected if corrected < GAIN * plain else fit_sum)(works, measured)


def held_out_errors(works: Sequence[Work], latency_ms: Sequence[float] | Array) -> Array:
    """Signed relative errors of `fit` in cross-validation. Whether to correct is decided anew inside each fold."""
    return cross_errors(works, np.asarray(latency_ms, dtype=float), fit)


def cross_errors(
    works: Sequence[Work], measured: Array, fitting: Callable[[Sequence[Work], Array], LatencyModel], folds: int = FOLDS
) -> Array:
    """Signed relative errors where each network is predicted by a model fitted on the other folds."""
    fold = np.random.default_rng(0).permutation(len(works)) % folds
    errors = np.zeros(len(works))
    for held in range(folds):
        kept = np.flatnonzero(fold != held).tolist()
        model = fitting([works[i] for i in kept], measured[kept])
        for i in np.flatnonzero(fold == held).tolist():
            errors[i] = model.latency_ms(works[i]) / measured[i] - 1
    return errors


def _loss(errors: Array) -> float:
    """Between the median and the tail: the mean error with each one bounded, so that no single network decides."""
    return float(np.mean(np.minimum(np.abs(errors), 0.3)))


def fit_sum(works: Sequence[Work], measured: Array, *, shrinkage: float = SHRINKAGE) -> LatencyModel:
    """Non-negative least squares in relative error, shrunk towards a roofline.

    The roofline has one price per feature for float, plain-channel and int8 kernels each; it speaks where a kind was
    seen too rarely to be told apart. A second pass gives less weight to networks that fit badly: their measurement
    was disturbed more often than not.
    """
    kinds = sorted({k.kind for w in works for k in w.kernels})
    matrix = design(works, kinds)
    groups = [_group(kind) for kind in kinds]
    spread = _spread(groups)
    weights = 1 / measured
    prior = spread @ nnls((matrix @ spread) * weights[:, None], np.ones(len(works)))[0]
    solution = prior
    for _ in range(2):
        rows = matrix * weights[:, None]
        ridge = np.diag(np.sqrt(shrinkage * np.sum(rows**2, axis=0)) + 1e-9)
        solution = nnls(np.vstack([rows, ridge]), np.concatenate([weights * measured, ridge @ prior]))[0]
        residual = np.abs(matrix @ solution / measured - 1)
        typical = max(float(np.median(residual)), 1e-3)
        weights = np.minimum(1.0, 3 * typical / np.maximum(residual, 1e-9)) / measured
    table = solution[1:].reshape(len(kinds), len(FEATURES))
    return LatencyModel(float(solution[0]), {k: tuple(map(float, row)) for k, row in zip(kinds, table, strict=True)})


def design(works: Sequence[Work], kinds: Sequence[str]) -> Array:
    """`[networks, 1 + kinds * features]`: a one for the base, then the summed features of each kind."""
    column = {kind: i for i, kind in enumerate(kinds)}
    sums = np.zeros((len(works), len(kinds), len(FEATURES)))
    for row, work in zip(sums, works, strict=True):
        for kernel in work.kernels:
            row[column[kernel.kind]] += kernel.features
    return np.hstack([np.ones((len(works), 1)), sums.reshape(len(works), -1)])


def _group(kind: str) -> str:
    prefix = kind.partition(".")[0]
    return prefix if prefix in ("int8", "plain") else "float"


def _spread(groups: Sequence[str]) -> Array:
    """`[1 + kinds * features, 1 + groups * features]`: which price of the roofline each coefficient starts from."""
    names = sorted(set(groups))
    count = len(FEATURES)
    spread = np.zeros((1 + len(groups) * count, 1 + len(names) * count))
    spread[0, 0] = 1
    for i, group in enumerate(groups):
        for j in range(count):
            spread[1 + i * count + j, 1 + names.index(group) * count + j] = 1
    return spread


def fit_corrected(works: Sequence[Work], measured: Array) -> LatencyModel:
    """The sum, and a ridge regression of what it misses on whole-network features.

    It learns from residuals of networks that the sum was not fitted on: those of its own networks are too small.
    """
    errors = cross_errors(works, measured, fit_sum, INNER_FOLDS)
    model = fit_sum(works, measured)
    rows = [network_features(w, model.base_ms, [model.kernel_ms(k) for k in w.kernels]) for w in works]
    names = sorted({name for row in rows for name in row})
    values = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    means, scales = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-9)
    target = np.clip(-np.log1p(np.maximum(errors, -0.9)), -0.5, 0.5)
    standard = (values - means) / scales
    gram = standard.T @ standard + CORRECTION_RIDGE * len(works) * np.eye(len(names))
    weights = np.linalg.solve(gram, standard.T @ (target - target.mean()))
    by_name = [dict(zip(names, map(float, v), strict=True)) for v in (weights, means, scales)]
    return LatencyModel(model.base_ms, model.coefficients, Correction(float(target.mean()), *by_name))
