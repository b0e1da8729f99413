"""The keys of a few architectures of a space; run as a program, of the space that standard input holds.

Imports nothing but what is light: `nas_edge.testing` itself would bring torch.
"""

from __future__ import annotations

import json
import pickle
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


if __name__ == "__main__":
    print(json.dumps(keys(pickle.load(sys.stdin.buffer))))  # noqa: T201
