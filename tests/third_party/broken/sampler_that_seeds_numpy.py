"""Seeds numpy's generator for all others."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.samplers import RandomSampler

from nas_edge.testing import SamplerTests

CAUGHT_BY = "test_the_process_stays_as_it_is"


class Broken(RandomSampler):
    def __init__(self, seed):
        super().__init__(seed)
        np.random.seed(seed)


class TestBroken(SamplerTests):
    trials = 12
    make_sampler = pytest.fixture(lambda self: Broken)
