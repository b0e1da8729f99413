"""Leaves a hook before a layer of the network that it is given."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_what_it_is_given_stays_as_it_is"


class Broken(Ternary):
    def structure(self, model, config, context):
        model.register_forward_pre_hook(note)
        return super().structure(model, config, context)


def note(module, inputs):
    pass


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
