"""A target without a defect, which the others are made from."""

from __future__ import annotations

import pytest
from nas_edge_tiny import Bench

from nas_edge import MeasurementError
from nas_edge.testing import TargetTests

CAUGHT_BY = None


class WholeBench(Bench):
    def measure(self, model, budget_s):
        import onnx

        try:
            onnx.load(model)
        except Exception as error:
            raise MeasurementError(f"{model} is no ONNX model; export one first") from error
        return super().measure(model, budget_s)


class TestWhole(TargetTests):
    target = pytest.fixture(lambda self: WholeBench())
