"""How much a candidate is expected to add to a front: closed forms for Gaussian predictions. All is minimised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Array = npt.NDArray[np.float64]


def expected_excess(threshold: Array | float, mean: Array, deviation: Array) -> Array:
    """`E[max(0, threshold - X)]` of a Gaussian X: the expected improvement (Jones et al. 1998, equation 15)."""
    z = (threshold - mean) / deviation
    excess: Array = (threshold - mean) * ndtr(z) + deviation * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return excess


def front(losses: Array) -> npt.NDArray[np.int64]:
    """Which of the points `[count, 2]` no other dominates, by the first loss."""
    order = np.lexsort((losses[:, 1], losses[:, 0]))
    second = losses[order, 1]
    lowest = np.minimum.accumulate(np.concatenate([[np.inf], second[:-1]]))
    members: npt.NDArray[np.int64] = order[second < lowest]
    return members


def expected_hypervolume_improvement(
    means: Array, deviations: Array, points: Array, reference: Array, floor: Array
) -> Array:
    """By how much each of independent Gaussian points `[count, 2]` enlarges the area that `points` dominate.

    The area is bounded by `reference` above and `floor` below. It falls into strips between neighbours of the front;
    in each the gain is a product of two one-dimensional ones (Emmerich et al. 2011, section 4).
    """
    inside = points[(points < reference).all(axis=1)]
    inside = inside[front(inside)]
    edges = np.concatenate([[floor[0]], np.maximum(inside[:, 0], floor[0]), [reference[0]]])
    heights = np.concatenate([[reference[1]], inside[:, 1]])
    gained = expected_excess(edges[None], means[:, :1], deviations[:, :1])
    widths = gained[:, 1:] - gained[:, :-1]
    below = expected_excess(floor[1], means[:, 1:], deviations[:, 1:])
    tall = expected_excess(heights[None], means[:, 1:], deviations[:, 1:]) - below
    improvement: Array = (widths * np.maximum(tall, 0.0)).sum(axis=1)
    return improvement


def hypervolume(points: Array, reference: Array) -> float:
    """The area that points `[count, 2]` dominate, up to `reference`."""
    inside = points[(points < reference).all(axis=1)]
    inside = inside[front(inside)]
    widths = np.diff(np.concatenate([inside[:, 0], [reference[0]]]))
    return float((widths * (reference[1] - inside[:, 1])).sum())
