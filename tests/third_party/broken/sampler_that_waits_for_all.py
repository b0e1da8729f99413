"""Reads the values of every trial before its own, also of those that run elsewhere."""

from __future__ import annotations

import pytest
from optuna.samplers import RandomSampler

from nas_edge.testing import SamplerTests

CAUGHT_BY = "test_it_digests_trials_that_run_elsewhere"


class Broken(RandomSampler):
    def before_trial(self, study, trial):
        done = [t for t in study.trials[: trial.number] if t.state.name not in ("PRUNED", "FAIL")]
        self.best = max((t.values[0] for t in done), default=0.0)


class TestBroken(SamplerTests):
    trials = 12
    make_sampler = pytest.fixture(lambda self: Broken)
