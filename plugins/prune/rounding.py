"""How many channels the kernels of a target work on at once."""

from __future__ import annotations

from nas_edge import Target, channel_block

from . import AUTO

FILTERS = 4  # that kernels without blocks compute at a time


def channel_multiple(round_to: int | str, target: Target) -> tuple[int, str | None]:
    """The multiple that channel counts are rounded to, and for "auto" in words what of the target it follows from."""
    if round_to != AUTO:
        return int(round_to), None
    block = channel_block(target.fingerprint())
    if block > 1:
        return block, f"rounded to {block} channels, a block of the target's kernels"
    return (
        2 * FILTERS,
        f"rounded to {2 * FILTERS} channels, for the target's kernels compute {FILTERS} filters at a time",
    )
