"""How many channels the kernels of a target work on at once."""

from __future__ import annotations

from collections.abc import Collection

from nas_edge import Target

from . import AUTO

WIDE, NARROW = 16, 8


def channel_multiple(round_to: int | str, target: Target) -> tuple[int, str | None]:
    """The multiple that channel counts are rounded to, and for "auto" in words what of the target it follows from."""
    if round_to != AUTO:
        return int(round_to), None
    known: Collection[str] = target.fingerprint().get("instruction_sets") or ()
    multiple = block_channels(known)
    reason = "avx512f" if multiple == WIDE else "no avx512f" if known else "unknown instruction sets"
    return multiple, f"rounded to {multiple} channels for a target with {reason}"


def block_channels(instruction_sets: Collection[str]) -> int:
    """The channels in a block of ONNX Runtime's float convolutions: 16 with AVX-512, 8 without.

    On x86 its kernels (MLAS) keep channels in blocks of as many as a vector register of AVX-512 or AVX2 holds, and fill
    up the last one: the channels of a block that is not full cost as much as all of it. On Arm its usual builds leave
    channels as they are and compute filters four at a time, of which 8 is a multiple.
    """
    return WIDE if "avx512f" in instruction_sets else NARROW
