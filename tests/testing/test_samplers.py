"""The checks of a sampler, as their reader meets them."""

from __future__ import annotations

import logging

import optuna
import pytest

from nas_edge.testing import SamplerTests


def test_trials_that_fail_on_purpose_are_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever checks a sampler that passes is shown no traceback."""
    optuna.logging.enable_propagation()
    try:
        SamplerTests().test_it_digests_pruned_failed_and_forbidden_trials(optuna.samplers.RandomSampler)
    finally:
        optuna.logging.disable_propagation()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
