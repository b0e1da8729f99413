"""Its objective leaves a hook on the network that ships."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge import Objective
from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_training_goes_through_its_objective"


class Watching(Objective):
    def prepare(self, model):
        model.register_forward_hook(note)


def note(module, inputs, outputs):
    pass


class Broken(Ternary):
    def objective(self, config, context):
        return Watching()


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
