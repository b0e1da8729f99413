"""What a long benchmark says on standard error."""

from __future__ import annotations

import sys

from nas_edge.engine.progress import Progress


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Log(Progress):
    """The results of a search's phases, without its trials."""

    def say(self, text: str) -> None:
        log(text)

    warn = say
