"""How wrong the latency model is on networks that it was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_edge.latency.model import Array


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
