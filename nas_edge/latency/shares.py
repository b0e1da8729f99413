"""Shape corrections with few centres."""

from __future__ import annotations

import numpy as np

from nas_edge.latency.model import SHAPE_SCALE, Array, ShapeCorrection, alike

CONSTANT = 0.3  # of the shapes' variance: what all kernels of a kind have in common
CENTRES = 20  # of a kind's shapes that are stored


def condensed(unique: Array, weights: Array, parts: Array) -> ShapeCorrection:
    """A Gaussian bump at each of the shapes `unique` `[shapes, sizes]`, and a constant, by few centres instead.

    They are spread over the shapes, and closest where `parts` `[shapes]`, what each shape makes up of all time, is
    large; the correction is exact where there are no more shapes than `CENTRES`.
    """
    values = alike(unique, unique, SHAPE_SCALE) @ weights
    chosen = spread_out(unique, CENTRES)
    bumps = alike(unique, unique[chosen], SHAPE_SCALE)
    importance = np.sqrt(parts / max(float(parts.max(initial=0.0)), 1e-12) + 1e-3)[:, None]
    rows = np.vstack([bumps * importance, 1e-3 * np.eye(len(chosen))])
    target = np.concatenate([values * importance[:, 0], np.zeros(len(chosen))])
    fitted = np.linalg.lstsq(rows, target, rcond=None)[0]
    return ShapeCorrection(CONSTANT * float(weights.sum()), unique[chosen], fitted)


def spread_out(points: Array, count: int) -> list[int]:
    """Indices of points far from each other: each next one is the farthest from those chosen (Gonzalez 1985)."""
    chosen = [0]
    distance = ((points - points[0]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return chosen
