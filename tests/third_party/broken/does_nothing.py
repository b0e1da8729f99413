"""Rounds a copy, and returns the network that it was given."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_it_does_something"


class Broken(Ternary):
    def finalize(self, model, config, context):
        super().finalize(model, config, context)
        return model


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
