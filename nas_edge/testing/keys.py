"""The keys of a few architectures of a space; run as a program, of the space that standard input describes.

Imports nothing but what is light: `nas_edge.testing` itself would bring torch.
"""

from __future__ import annotations

import importlib
import json
import random
import sys

from nas_edge.contracts import Scope, SearchSpace
from nas_edge.engine.ranges import Recorder
from nas_edge.spec import ArchSpec, CandidateSpec

COUNT = 10


def keys(space: SearchSpace) -> list[str]:
    """Of so many architectures that are drawn with the seeds 0, 1, 2, ..."""
    drawn = [space.suggest(Scope(Recorder(random.Random(seed)), space.name)) for seed in range(COUNT)]
    return [CandidateSpec(ArchSpec(space.name, space.version, params)).key for params in drawn]


def described(space: SearchSpace) -> str:
    """What another process makes the same space from. Raises `TypeError` where its attributes are not JSON."""
    kind = type(space)
    return json.dumps({"module": kind.__module__, "name": kind.__qualname__, "attributes": vars(space)})


def made(description: str) -> SearchSpace:
    """The space that was described."""
    value = json.loads(description)
    kind = getattr(importlib.import_module(value["module"]), value["name"])
    space: SearchSpace = kind.__new__(kind)
    vars(space).update(value["attributes"])
    return space


if __name__ == "__main__":
    sys.stdout.write(json.dumps(keys(made(sys.stdin.read()))))
