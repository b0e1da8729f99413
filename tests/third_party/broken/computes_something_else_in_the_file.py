"""Acts only while torch runs it, and not in the exported file."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_its_file_computes_the_same"
ALSO_BY = ("test_it_composes_with",)


class Broken(Ternary):
    def finalize(self, model, config, context):
        model = super().finalize(model, config, context)
        model.register_forward_hook(only_in_torch)
        return model


def only_in_torch(module, inputs, outputs):
    import torch

    return outputs if torch.onnx.is_in_onnx_export() else 2 * outputs


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
