"""Gives the median in seconds and its interval in milliseconds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from whole_target import WholeBench

from nas_edge.testing import TargetTests

CAUGHT_BY = "test_a_measurement_is_sound"
ALSO_BY = ("test_several_are_measured_in_their_order",)


class Broken(WholeBench):
    def measure(self, model, budget_s):
        found = super().measure(model, budget_s)
        return replace(found, p50_ms=found.p50_ms / 1000)


class TestBroken(TargetTests):
    target = pytest.fixture(lambda self: Broken())
