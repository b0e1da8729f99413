"""What a search tells whoever watches it. The default says nothing; the command line draws a progress bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One member of the front so far."""

    number: int
    accuracy: float
    latency_ms: float
    size_bytes: int
    techniques: str


class Progress:
    """Override what you want to hear of."""

    def phase(self, text: str) -> None:
        """A new phase began."""

    def part_done(self, share: float) -> None:
        """How much of the phase is done, 0 to 1, where that is known."""

    def calibrated(self, networks: int, seconds: float, error: float | None) -> None:
        """So many networks were measured; `error` is the held-out relative error where one is known."""

    def trials(self, done: int, total: int, front: Sequence[Point]) -> None:
        """The state before the first trial and after each one."""

    def trial(self, number: int, outcome: str) -> None:
        """How one trial ended, in words."""

    def say(self, text: str) -> None:
        """A result of a phase."""

    def warn(self, text: str) -> None:
        """Something that the user should know."""
