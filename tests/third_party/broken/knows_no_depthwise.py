"""Takes the filters of each convolution for as many as it has inputs."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_it_keeps_the_shapes"
ALSO_BY = (
    "test_its_file_computes_the_same",
    "test_it_works_before_any_training",
    "test_it_composes_with",
    "test_it_does_something",
    "test_the_same_seed_gives_the_same_file",
    "test_it_reduces_what_it_declares",
)


class Broken(Ternary):
    def finalize(self, model, config, context):
        from torch import nn

        model = super().finalize(model, config, context)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data.reshape(layer.out_channels, layer.in_channels, *layer.kernel_size)
        return model


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
