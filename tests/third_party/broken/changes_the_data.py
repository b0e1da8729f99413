"""Blackens the images that all techniques are given."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_what_it_is_given_stays_as_it_is"


class Broken(Ternary):
    def finalize(self, model, config, context):
        context.data.train.images[:8] = 0
        return super().finalize(model, config, context)


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
