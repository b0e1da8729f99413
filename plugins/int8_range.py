"""Weights of 8 bits on targets whose kernels have no room for their products."""

from __future__ import annotations

from collections.abc import Sequence

from nas_edge import Context, int8_saturates

from .checks import refuse

SAFE_BITS = 7  # 2 * 255 * 63 fits into 16 bits


def check_reduce_range(technique: str, value: object) -> None:
    """True, False, or None, which leaves it to the target."""
    if not (value is None or isinstance(value, bool)):
        raise refuse(technique, "reduce_range", value, "true, false, or left out", "leave it out: the target decides")


def safe_bits(wanted: Sequence[int], reduce_range: bool | None, context: Context) -> list[int]:
    """The bits that weights of so many get: 7 of 8 where the range is reduced, by choice or for the target's sake."""
    if max(wanted) <= SAFE_BITS:
        return list(wanted)
    why = ""
    if reduce_range is None:
        reduce_range = int8_saturates(context.target.fingerprint())
        why = ": sums of 8-bit products may saturate on the target"
    if reduce_range:
        context.note(f"{SAFE_BITS} of the weights' 8 bits are used{why}")
    return [min(bits, SAFE_BITS) if reduce_range else bits for bits in wanted]
