"""Names the weights of the file anew, so that the next technique does not find them."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_it_composes_with"


class Broken(Ternary):
    exclusive = frozenset()

    def graph(self, model, config, context):
        import onnx

        if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
            raise RuntimeError("a graph with integers")
        made = onnx.ModelProto()
        made.CopyFrom(model)
        return made


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
