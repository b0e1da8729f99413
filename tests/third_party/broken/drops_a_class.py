"""Cuts the last output of the classifier."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_it_keeps_the_shapes"
ALSO_BY = ("test_its_file_computes_the_same", "test_it_works_before_any_training", "test_it_composes_with")


class Broken(Ternary):
    def finalize(self, model, config, context):
        from torch import nn

        model = super().finalize(model, config, context)
        linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
        linear.weight, linear.bias = nn.Parameter(linear.weight[:-1]), nn.Parameter(linear.bias[:-1])
        return model


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
