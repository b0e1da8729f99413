"""Calls every technique itself, and so cuts off the plugins that would come after it."""

from __future__ import annotations

import sys

import pytest

from nas_edge import hookimpl
from nas_edge.testing import PluginTests

CAUGHT_BY = "test_it_leaves_the_techniques_of_others_to_them"
ALSO_BY = ("test_its_import_is_quick",)  # this file holds the kit as well, and so imports torch


@hookimpl
def apply_technique(technique, stage, subject):
    return subject


class TestBroken(PluginTests):
    plugin = pytest.fixture(lambda self: sys.modules[__name__])
