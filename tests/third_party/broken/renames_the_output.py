"""Renames the file's output, which the device then looks for in vain."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_its_file_computes_the_same"
ALSO_BY = ("test_it_works_before_any_training", "test_it_composes_with")


class Broken(Ternary):
    def graph(self, model, config, context):
        import onnx

        made = onnx.ModelProto()
        made.CopyFrom(model)
        made.graph.node.add(op_type="Identity", input=["logits"], output=["ternary_logits"])
        made.graph.output[0].name = "ternary_logits"
        return made


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
