"""Gives a latency for a file that is no model."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Bench

from nas_edge.testing import TargetTests

CAUGHT_BY = "test_what_is_no_model_is_refused_in_words"


class TestBroken(TargetTests):
    target = pytest.fixture(lambda self: Bench())
