"""Measures the first of several files."""

from __future__ import annotations

import pytest
from whole_target import WholeBench

from nas_edge.testing import TargetTests

CAUGHT_BY = "test_several_are_measured_in_their_order"


class Broken(WholeBench):
    def measure_many(self, models, budget_s):
        return [self.measure(models[0], budget_s)]


class TestBroken(TargetTests):
    target = pytest.fixture(lambda self: Broken())
