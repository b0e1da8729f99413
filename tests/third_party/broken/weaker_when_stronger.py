"""A larger threshold zeros fewer weights: it compares the wrong way round."""

from __future__ import annotations

import pytest
from nas_edge_ternary import Ternary, TernaryConfig

from nas_edge.testing import TechniqueTests

CAUGHT_BY = "test_it_reduces_what_it_declares"


class Broken(Ternary):
    def finalize(self, model, config, context):
        return super().finalize(model, TernaryConfig(1.9 - config.threshold), context)


class TestBroken(TechniqueTests):
    reduces = "compressed_bytes"
    stronger = (TernaryConfig(0.2), TernaryConfig(0.7), TernaryConfig(1.2))

    technique = pytest.fixture(lambda self: Broken())
