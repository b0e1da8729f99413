"""Two models that are judged on the same images: most of those they get right or wrong alike, so chance is smaller."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def gain(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """How much higher the second accuracy is, of 0..1, and the standard error of that.

    `before` and `after` tell image by image what each model gets right, `[images]`. The error is that of the mean of
    paired differences, `std(after - before) / sqrt(images)` (McNemar 1947, for shares).
    """
    differences = after.astype(float) - before.astype(float)
    return float(differences.mean()), float(differences.std() / math.sqrt(len(differences)))
