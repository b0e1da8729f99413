"""Imports torch with its module, which each `nas-edge --help` then waits for."""

from __future__ import annotations

import pytest

from nas_edge import hookimpl
from nas_edge.testing import PluginTests

CAUGHT_BY = "test_its_import_is_quick"


@hookimpl
def register_techniques(register):
    return None


class TestBroken(PluginTests):
    """Of this module, which imports the kit and with it torch."""

    plugin = pytest.fixture(lambda self: __import__("heavy_import"))
