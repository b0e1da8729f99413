"""Asks for the best trial, which a study of two objectives has not."""

from __future__ import annotations

import pytest
from optuna.samplers import RandomSampler

from nas_edge.testing import SamplerTests

CAUGHT_BY = "test_it_searches_with_two_objectives"
ALSO_BY = (
    "test_the_same_seed_proposes_the_same",
    "test_the_process_stays_as_it_is",
    "test_it_digests_pruned_failed_and_forbidden_trials",
    "test_it_digests_trials_that_run_elsewhere",
    "test_it_goes_on_from_what_is_stored",
)


class Broken(RandomSampler):
    def before_trial(self, study, trial):
        if study.trials[:-1]:
            self.best = study.best_trial


class TestBroken(SamplerTests):
    trials = 12
    make_sampler = pytest.fixture(lambda self: Broken)
