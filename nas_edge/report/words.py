"""Figures as a person reads them, for every form of the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nas_edge.goals import REDUCTION, SPEEDUP


def percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}%"


def ms(value: float | None) -> str:
    """With three digits: a latency is not known better."""
    return "-" if value is None else f"{value:.3g} ms"


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """`0.142 ms (0.141 to 0.142)`."""
    return ms(value) if value is None or low is None or high is None else f"{ms(value)} ({low:.3g} to {high:.3g})"


def size(value: float | None) -> str:
    """Bytes as kB or MB of 1,000."""
    if value is None:
        return "-"
    return f"{value / 1e6:,.2f} MB" if value >= 1e6 else f"{value / 1e3:,.1f} kB"


def techniques(value: str) -> str:
    """Those that act, in words."""
    return "no technique" if value == "none" else value


def count(value: float | None) -> str:
    """`1.2 M`."""
    if value is None:
        return "-"
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:,.0f}"


def signed(value: float | None) -> str:
    """A relative change: `-12%`."""
    return "-" if value is None else f"{100 * value:+.0f}%"


def amount(value: float, unit: str) -> str:
    """What a goal is about, with the digits that its unit needs: `0.50 points`, `5 ms`."""
    digits = {"points": f"{value:.2f}", "ms": f"{value:.4g}", "times": f"{value:.3g}", "%": f"{value:.1f}"}
    return f"{digits[unit]} {unit}"


def asked(goal: str, wanted: float, unit: str) -> str:
    """`at most 0.50 points`."""
    return f"{'at least' if goal in (SPEEDUP, REDUCTION) else 'at most'} {amount(wanted, unit)}"


def points(value: float | None) -> str:
    """A difference of accuracies: `-1.2 points`."""
    return "-" if value is None else f"{round(100 * value, 1) + 0.0:+.1f} points"  # never -0.0


def change(before: float | None, after: float, more_is_better: bool) -> str:
    """What a step changed, in points of accuracy or in per cent; nothing where it changed nothing."""
    if before is None or before == after:
        return ""
    if more_is_better:
        return points(after - before)
    return signed(after / before - 1) if before else ""


# What is shown of each step: the figure's name, its title, its form, and whether more of it is better.
FIGURES: tuple[tuple[str, str, Callable[[Any], str], bool], ...] = (
    ("latency_ms", "latency", ms, False),
    ("size_bytes", "size", size, False),
    ("macs", "multiply-adds", count, False),
    ("accuracy", "accuracy", percent, True),
)
FILTERS: dict[str, Callable[..., str]] = {
    "percent": percent,
    "ms": ms,
    "size": size,
    "count": count,
    "signed": signed,
    "points": points,
    "techniques": techniques,
    "asked": asked,
    "amount": amount,
}
