"""Draws a kernel by itself, so that stored parameters give another network."""

from __future__ import annotations

import random

import pytest
from nas_edge_tiny import Tiny

from nas_edge.testing import SearchSpaceTests

CAUGHT_BY = "test_the_same_parameters_give_the_same_architecture"
ALSO_BY = ("test_no_parameter_is_dead", "test_its_keys_are_the_same_in_every_process")


class Broken(Tiny):
    def suggest(self, scope):
        return {**super().suggest(scope), "kernel": random.choice([3, 5])}


class TestBroken(SearchSpaceTests):
    space = pytest.fixture(lambda self: Broken())
