"""Takes a seed, and does without."""

from __future__ import annotations

import pytest
from optuna.samplers import RandomSampler

from nas_edge.testing import SamplerTests

CAUGHT_BY = "test_the_same_seed_proposes_the_same"
ALSO_BY = ("test_it_goes_on_from_what_is_stored",)


class Broken(RandomSampler):
    def __init__(self, seed):
        super().__init__()


class TestBroken(SamplerTests):
    trials = 12
    make_sampler = pytest.fixture(lambda self: Broken)
