"""Its objective darkens the images of the batch, which other objectives look at after it."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge import Objective
from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_training_goes_through_its_objective"


class Darker(Objective):
    def loss(self, inputs, labels, outputs):
        inputs.mul_(0.5)
        return 0 * outputs.sum()


class Broken(Ternary):
    def objective(self, config, context):
        return Darker()


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
