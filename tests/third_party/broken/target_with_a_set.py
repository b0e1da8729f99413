"""Its fingerprint holds a set, which no study can store."""

from __future__ import annotations

import pytest
from whole_target import WholeBench

from nas_edge.testing import TargetTests

CAUGHT_BY = "test_its_fingerprint_is_json"
ALSO_BY = (
    "test_its_fingerprint_stays_the_same",
    "test_a_measurement_is_sound",
    "test_several_are_measured_in_their_order",
)


class Broken(WholeBench):
    def fingerprint(self):
        return {**super().fingerprint(), "features": {"avx2"}}


class TestBroken(TargetTests):
    target = pytest.fixture(lambda self: Broken())
