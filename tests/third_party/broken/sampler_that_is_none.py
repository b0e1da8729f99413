"""Makes something that is no Optuna sampler."""

from __future__ import annotations

import pytest

from nas_edge.testing import SamplerTests

CAUGHT_BY = "test_it_makes_a_sampler"
ALSO_BY = (
    "test_it_searches_with_two_objectives",
    "test_the_same_seed_proposes_the_same",
    "test_the_process_stays_as_it_is",
    "test_it_digests_pruned_failed_and_forbidden_trials",
    "test_it_digests_trials_that_run_elsewhere",
    "test_it_goes_on_from_what_is_stored",
)


class TestBroken(SamplerTests):
    make_sampler = pytest.fixture(lambda self: lambda seed: object())
