"""Writes into the graph that it is given."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_what_it_is_given_stays_as_it_is"


class Broken(Ternary):
    def graph(self, model, config, context):
        model.doc_string = "ternary"
        return model


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
