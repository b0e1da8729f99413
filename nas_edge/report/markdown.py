"""Markdown in which names and reasons from outside stay text: no link, no image, no HTML of theirs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

ACTIVE = re.compile(r"([\\`*_{}\[\]()<>#|~!&:@$])")

GAP = "\u00a0\u00a0"  # spaces that stay: the dashboard sets columns side by side without any


def plain(text: object) -> str:
    """A text in one line, its `->` as an arrow, without the meaning that Markdown gives to its characters."""
    line = " ".join(str(text).split()).replace("->", "→")
    return ACTIVE.sub(r"\\\1", line).replace("www.", "www\\.")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of GitHub's kind. A column whose name starts with ">" is set flush right; cells are Markdown already."""
    line = "|".join("---:" if name.startswith(">") else "---" for name in head)
    names = [name.lstrip(">") for name in head]
    return "\n".join([_row(names), f"|{line}|", *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join([cells[0], *(GAP + cell if cell else '' for cell in cells[1:])])} |"
