"""The checks of the techniques' configs: each raises `InvalidCandidate` with technique, field, value and remedy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas_edge import InvalidCandidate


def refuse(technique: str, field: str, value: object, must: str, remedy: str) -> InvalidCandidate:
    """The error for a config's field."""
    return InvalidCandidate(f"{technique}: {field}={value!r} must be {must}; {remedy}")


def check_number(
    technique: str,
    field: str,
    value: object,
    *,
    above: float,
    below: float = math.inf,
    or_zero: bool = False,
    remedy: str,
) -> None:
    """A real number with above < value < below, or 0 where that stands for none."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and (above < value < below or (or_zero and value == 0))):  # type: ignore[operator]
        limits = f"above {above:g}" + ("" if math.isinf(below) else f" and below {below:g}")
        raise refuse(technique, field, value, f"a number {limits}", remedy)


def check_count(technique: str, field: str, value: object, *, remedy: str) -> None:
    """A whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise refuse(technique, field, value, "a whole number of at least 1", remedy)


def check_choice(technique: str, field: str, value: object, choices: Sequence[str]) -> None:
    """One of a few words."""
    if value not in choices:
        words = ", ".join(repr(c) for c in choices)
        raise refuse(technique, field, value, f"one of {words}", f"use {choices[0]!r}")
