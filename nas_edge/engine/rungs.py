"""Successive halving for several objectives: who stands badly after a part of the training is not trained further.

Asynchronous (Li et al. 2020, ASHA): each candidate is judged among those that reached the same rung before it, so that
no worker waits for another. The order within a rung is by Pareto rank, and then by crowding (Schmucker et al. 2021).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas_edge.samplers.history import pareto_ranks

Array = npt.NDArray[np.float64]
RUNGS = (0.25, 0.5)  # shares of a candidate's first training
KEPT = 0.5  # of those that reach a rung
LEAST = 8  # of them, before one is stopped


def stays(losses: Array) -> bool:
    """Whether the last of the points `[count, objectives]` of a rung, all to be minimised, is trained further."""
    count = len(losses)
    return count <= LEAST or place(losses) < np.ceil(KEPT * count)


def place(losses: Array) -> int:
    """The place of the last point in its rung, from 0."""
    ranks = pareto_ranks(losses)
    peers = ranks == ranks[-1]
    roomier = crowding(losses[peers])
    return int((ranks < ranks[-1]).sum() + (roomier > roomier[-1]).sum())


def crowding(losses: Array) -> Array:
    """The crowding distance of points `[count, objectives]` of one rank (Deb et al. 2002, section III B).

    How far its neighbours are apart, in units of the range, added up over the objectives; the ends have no bound.
    """
    distances = np.zeros(len(losses))
    for values in losses.T:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        span = ordered[-1] - ordered[0]
        distances[order[[0, -1]]] = np.inf
        if span > 0:
            distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / span
    return distances
