"""Asks for a parameter that its hook does not have."""

from __future__ import annotations

import sys

import pytest

from nas_edge import hookimpl
from nas_edge.testing import PluginTests

CAUGHT_BY = "test_its_hooks_are_known"
ALSO_BY = (
    "test_its_import_is_quick",  # this file holds the kit as well, and so imports torch
    "test_it_leaves_the_techniques_of_others_to_them",
    "test_its_validator_gives_a_reason_or_none",
    "test_it_predicts_for_no_device_of_others",
    "test_its_observers_only_observe",
)


@hookimpl
def study_finished(study, evaluation, verbose):
    return None


class TestBroken(PluginTests):
    plugin = pytest.fixture(lambda self: sys.modules[__name__])
