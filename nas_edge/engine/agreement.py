"""How well predictions agree with measurements, and whether worse than was stated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nas_edge.records import Audited, LatencyAudit

SIGNIFICANCE = 0.01


@dataclass(frozen=True)
class Agreement:
    """`median` and `q90` of |predicted / measured - 1| over so many `audited` models; None where that is not known."""

    audited: int
    median: float | None
    q90: float | None
    kendall_tau: float | None

    @classmethod
    def of(cls, models: Iterable[Audited]) -> Agreement:
        """Of the models whose measurement can be trusted."""
        trusted = stable(models)
        if not trusted:
            return cls(0, None, None, None)
        errors = [relative_error(m) for m in trusted]
        return cls(len(trusted), float(np.median(errors)), float(np.quantile(errors, 0.9)), _kendall_tau(trusted))


def _kendall_tau(models: Sequence[Audited]) -> float | None:
    """The rank correlation tau-b of predicted and measured; None for one model, or where all are equal.

    Not scipy's, which takes longer to import than `show` is to take.
    """
    predicted, measured = (
        np.sign(np.subtract.outer(values, values))
        for values in ([m.predicted_ms for m in models], [m.measured_ms for m in models])
    )
    pairs = float(np.sqrt((predicted**2).sum() * (measured**2).sum()))
    return float((predicted * measured).sum()) / pairs if pairs else None


def stable(models: Iterable[Audited]) -> list[Audited]:
    return [m for m in models if m.unstable_because is None]


def relative_error(model: Audited) -> float:
    """|predicted / measured - 1|."""
    return abs(model.predicted_ms / model.measured_ms - 1)


def above_stated(audit: LatencyAudit) -> int:
    """How many models of the sample err by more than nine in ten should."""
    return sum(relative_error(m) > audit.stated_q90 for m in stable(audit.sample))


def p_value(audit: LatencyAudit) -> float:
    """The probability of so many models above the stated 90 % quantile, or more, where the stated error holds.

    That quantile was itself found on m networks, so the share of models above it is not 0.1 but follows a beta
    distribution around it, and their number the distribution of exceedances (Gumbel and von Schelling, 1950), which
    tends to the binomial one with large m. A quantile found on 8 networks is doubted less readily than one on 400.
    """
    from scipy import stats

    m = audit.stated_networks
    number = len(stable(audit.sample))
    return float(stats.betabinom.sf(above_stated(audit) - 1, number, 0.1 * (m + 1), 0.9 * (m + 1)))


def leaves_stated_error(audit: LatencyAudit) -> bool:
    """Whether the sample's errors are larger than the stated ones beyond what chance explains."""
    return p_value(audit) < SIGNIFICANCE
