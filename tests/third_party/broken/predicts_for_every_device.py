"""Predicts the latency on devices that it has never seen."""

from __future__ import annotations

import sys

import pytest

from nas_edge import Prediction, hookimpl
from nas_edge.testing import PluginTests

CAUGHT_BY = "test_it_predicts_for_no_device_of_others"
ALSO_BY = ("test_its_import_is_quick",)  # this file holds the kit as well, and so imports torch


@hookimpl
def predict_latency(graph, target):
    return Prediction(1.0, 0.9, 1.1)


class TestBroken(PluginTests):
    plugin = pytest.fixture(lambda self: sys.modules[__name__])
