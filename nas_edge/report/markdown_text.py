"""Markdown in which names and reasons from outside stay text: no link, no image, no HTML of theirs."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

# What means something to a reader of Markdown, of GitHub's kind and with formulas; an underscore does inside no word.
ACTIVE = re.compile(r"[\\`*\[\]|~$@]|(?<!\w)_|_(?!\w)|^#|(?<=www)\.|:(?=//)")


def plain(text: object) -> str:
    """A text in one line, its `->` as an arrow, without the meaning that Markdown gives to its characters."""
    line = html.escape(" ".join(str(text).split()).replace("->", "→"), quote=False)
    return ACTIVE.sub(r"\\\g<0>", line)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table of GitHub's kind. Cells are Markdown; a title's leading ">" sets its column flush right."""
    line = ["---:" if title.startswith(">") else ":---" for title in titles]
    return [f"| {' | '.join(row)} |" for row in ([title.lstrip(">") for title in titles], line, *rows)]
