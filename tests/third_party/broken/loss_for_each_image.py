"""Its objective gives a loss for each image, and no mean."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge import Objective
from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_training_goes_through_its_objective"
ALSO_BY = (
    "test_the_same_seed_gives_the_same_file",
    "test_its_file_computes_the_same",
    "test_it_does_something",
    "test_it_composes_with",
)


class Decay(Objective):
    def loss(self, inputs, labels, outputs):
        return outputs.square().mean(1)


class Broken(Ternary):
    def objective(self, config, context):
        return Decay() if context.trained else None


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
