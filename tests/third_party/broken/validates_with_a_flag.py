"""Its validator says False where it should give the reason."""

from __future__ import annotations

import sys

import pytest

from nas_edge import hookimpl
from nas_edge.testing import PluginTests

CAUGHT_BY = "test_its_validator_gives_a_reason_or_none"
ALSO_BY = ("test_its_import_is_quick",)  # this file holds the kit as well, and so imports torch


@hookimpl
def validate_candidate(spec):
    return spec.arch.space == "tiny"


class TestBroken(PluginTests):
    plugin = pytest.fixture(lambda self: sys.modules[__name__])
