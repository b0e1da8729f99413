"""How a command says its result: one JSON object for scripts, or a table for a person; progress goes to stderr."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas_edge.report.writing import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPE_COLUMNS = 140


console = Console(stderr=True, highlight=False)
"""For progress, warnings and everything else that is not the result."""

_results: TextIO | None = None


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Look for no garbage meanwhile: among a million objects that are all in use that takes a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def only_results_on_stdout() -> Iterator[None]:
    """Send what libraries print to standard error, so that standard output holds what `emit` wrote and nothing else."""
    global _results
    before = _results
    _results = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _results = before


def emit(payload: Mapping[str, Any], as_json: bool, render: Callable[[], RenderableType]) -> None:
    """Write a command's result: `payload` as one JSON object, or what `render` makes of it for a person."""
    stream = _results or sys.stdout
    if as_json:
        indent = 2 if stream.isatty() else None  # by far the quicker, and nobody reads it
        stream.write(json.dumps(plain(payload), indent=indent, ensure_ascii=False, allow_nan=False) + "\n")
        stream.flush()
        return
    rendered = render()
    if isinstance(rendered, str):  # as it is: a path must not be folded, nor [brackets] taken for markup
        stream.write(rendered + "\n")
        return
    # In a pipe there is no window to fit into: lines for grep are not folded at 80 columns.
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS
    Console(file=stream, width=width, highlight=False).print(rendered)


def table(*columns: str, title: str | None = None) -> Table:
    """An unboxed table. A column whose name starts with ">" holds numbers, and is set flush right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    for column in columns:
        numbers = column.startswith(">")
        made.add_column(column.lstrip(">"), justify="right" if numbers else "left", overflow="fold")
    return made


def facts(values: Mapping[str, Any]) -> Table:
    """Names and values, a line each; nested ones under `name.part`, lists joined by commas."""
    made = Table.grid(padding=(0, 2))
    for name, value in _flat(values):
        made.add_row(Text(name, "dim"), Text(value))
    return made


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple | set | frozenset):
            yield f"{prefix}{name}", ", ".join(str(v) for v in value) or "none"
        else:
            yield f"{prefix}{name}", "-" if value is None else str(value)
