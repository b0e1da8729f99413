"""Its observer looks for a latency that a study need not have."""

from __future__ import annotations

import sys

import pytest

from nas_edge import hookimpl
from nas_edge.testing import PluginTests

CAUGHT_BY = "test_its_observers_only_observe"
ALSO_BY = ("test_its_import_is_quick",)  # this file holds the kit as well, and so imports torch


@hookimpl
def candidate_finished(study, evaluation):
    study.user_attrs["my-dashboard"].append(evaluation.latency_ms)


class TestBroken(PluginTests):
    plugin = pytest.fixture(lambda self: sys.modules[__name__])
