"""Its fingerprint holds the time, so that no measurement is ever used again."""

from __future__ import annotations

import time

import pytest
from whole_target import WholeBench

from nas_edge.testing import TargetTests

CAUGHT_BY = "test_its_fingerprint_stays_the_same"
ALSO_BY = ("test_a_measurement_is_sound", "test_several_are_measured_in_their_order")


class Broken(WholeBench):
    def fingerprint(self):
        return {**super().fingerprint(), "time": time.time()}


class TestBroken(TargetTests):
    target = pytest.fixture(lambda self: Broken())
