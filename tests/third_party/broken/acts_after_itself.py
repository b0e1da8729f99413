"""Must act after itself."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_it_declares_what_the_engine_asks"
ALSO_BY = ("test_it_composes_with",)


class Broken(Ternary):
    after = frozenset({"ternary"})


class TestBroken(TechniqueTests):
    technique = pytest.fixture(lambda self: Broken())
