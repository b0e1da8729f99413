"""The live view of a search, on standard error: a bar, the best under the budget, the front so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from nas_edge.cli.output import console, table
from nas_edge.engine.progress import Point, Progress

if TYPE_CHECKING:
    from rich.progress import TaskID

FRONT_ROWS = 8


@contextmanager
def live_progress() -> Iterator[Progress]:
    """A live display on a terminal and in a notebook; plain lines where standard error is a file or a pipe."""
    in_notebook = console.is_jupyter and find_spec("ipywidgets") is not None
    if not console.is_terminal and not in_notebook:
        yield PlainProgress()
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield LiveProgress(live)


class PlainProgress(Progress):
    """A line for each thing that happened, and for each tenth of what takes long."""

    def __init__(self) -> None:
        self._tenths = 0

    def phase(self, text: str) -> None:
        self._tenths = 0
        console.print(text, markup=False)

    def part_done(self, share: float) -> None:
        if int(10 * share) > self._tenths:
            self._tenths = int(10 * share)
            console.print(f"{10 * self._tenths} % done", markup=False)

    def trials(self, done: int, total: int, front: Sequence[Point]) -> None:
        best = f"; best {front[0].accuracy:.1%} at {front[0].latency_ms:.3g} ms" if front else ""
        console.print(f"{done} of {total} trials{best}", markup=False)

    def trial(self, number: int, outcome: str) -> None:
        console.print(f"trial {number}: {outcome}", markup=False)

    def say(self, text: str) -> None:
        console.print(text, markup=False)

    def warn(self, text: str) -> None:
        console.print(f"warning: {text}", markup=False)


class LiveProgress(Progress):
    """One bar, and the front below it."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
        )
        self._task: TaskID | None = None
        self._phase = ""
        self._front: Sequence[Point] = ()
        self._said = ""
        self._done = -1

    def phase(self, text: str) -> None:
        self._said = self._phase = text
        self._draw()

    def part_done(self, share: float) -> None:
        self._said = f"{self._phase}: {share:.0%}"
        self._draw()

    def calibrated(self, networks: int, seconds: float, error: float | None) -> None:
        known = "" if error is None else f", held-out error {error:.1%} (median)"
        self._said = f"Calibrating: {networks} networks, {seconds:.0f} s{known}"
        self._draw()

    def trials(self, done: int, total: int, front: Sequence[Point]) -> None:
        if self._task is None:
            self._task = self._bar.add_task("trials", total=total, completed=done)
        self._bar.update(self._task, completed=done)
        self._front = front
        self._draw()

    def trial(self, number: int, outcome: str) -> None:
        self._said = f"trial {number}: {outcome}"
        self._draw()

    def say(self, text: str) -> None:
        console.print(text, markup=False)

    def warn(self, text: str) -> None:
        console.print(f"warning: {text}", style="yellow", markup=False)

    def _draw(self) -> None:
        parts: list[RenderableType] = [] if self._task is None else [self._bar]
        if self._front:
            parts.append(front_table(self._front))
        parts.append(f"[dim]{escape(self._said)}[/]")
        self._live.update(Group(*parts))


def front_table(front: Sequence[Point]) -> RenderableType:
    shown = table(">trial", ">accuracy", ">latency ms", ">size kB", "techniques", title="Best trade-offs so far")
    for point in front[:FRONT_ROWS]:
        size = f"{point.size_bytes / 1000:.0f}"
        shown.add_row(str(point.number), f"{point.accuracy:.1%}", f"{point.latency_ms:.3g}", size, point.techniques)
    if len(front) > FRONT_ROWS:
        shown.add_row("", "", "", "", f"... and {len(front) - FRONT_ROWS} more")
    return shown
