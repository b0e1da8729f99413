"""Adds noise from a generator that nobody seeds."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_the_same_seed_gives_the_same_file"


class Broken(Ternary):
    def finalize(self, model, config, context):
        import numpy as np
        import torch
        from torch import nn

        model = super().finalize(model, config, context)
        draw = np.random.default_rng()
        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, nn.Linear):
                    layer.bias += torch.from_numpy(draw.normal(size=layer.bias.shape)).float()
        return model


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
