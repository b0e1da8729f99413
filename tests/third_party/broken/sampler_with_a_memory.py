"""Remembers the trials itself, and does not know those from before a restart."""

from __future__ import annotations

import pytest
from optuna.samplers import RandomSampler

from nas_edge.testing import SamplerTests

CAUGHT_BY = "test_it_goes_on_from_what_is_stored"


class Broken(RandomSampler):
    def __init__(self, seed):
        super().__init__(seed)
        self.known = {}

    def before_trial(self, study, trial):
        if trial.number:
            self.known[trial.number - 1]
        self.known[trial.number] = True


class TestBroken(SamplerTests):
    trials = 12
    make_sampler = pytest.fixture(lambda self: Broken)
