"""Says that it reduces the parameters, of which it leaves all."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_it_reduces_what_it_declares"
ALSO_BY = ("test_it_composes_with",)


class Broken(Ternary):
    version = 2


class TestBroken(TechniqueTests):
    reduces = "parameters"

    technique = pytest.fixture(lambda self: Broken())
