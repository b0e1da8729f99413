"""Reads the values of trials that have none, because they failed."""

from __future__ import annotations

import pytest
from optuna.samplers import RandomSampler

from nas_edge.testing import SamplerTests

CAUGHT_BY = "test_it_digests_pruned_failed_and_forbidden_trials"


class Broken(RandomSampler):
    def before_trial(self, study, trial):
        done = [t for t in study.trials if t.state.is_finished()]
        self.best = max((t.values[0] for t in done), default=0.0)


class TestBroken(SamplerTests):
    trials = 12
    make_sampler = pytest.fixture(lambda self: Broken)
