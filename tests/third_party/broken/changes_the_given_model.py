"""Rounds the weights of the very network that it is given."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_what_it_is_given_stays_as_it_is"


class Broken(Ternary):
    def finalize(self, model, config, context):
        model.load_state_dict(super().finalize(model, config, context).state_dict())
        return model


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
