"""A process in which cases come in: it may die or hang, and another takes its place.

Reads a case as a line of JSON from standard input, and writes its outcome as one to where standard output led.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from .cases import Case
from .doors import Doors


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what native code prints
    doors = Doors()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        outcome = doors.enter(Case.from_json(json.loads(line)))
        print(json.dumps(asdict(outcome)), file=answers, flush=True)


if __name__ == "__main__":
    main()
