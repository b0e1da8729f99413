"""Keeps a number of its own on a layer of the network that it is given."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_what_it_is_given_stays_as_it_is"


class Broken(Ternary):
    def structure(self, model, config, context):
        list(model.modules())[-1].seen = 1
        return super().structure(model, config, context)


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
