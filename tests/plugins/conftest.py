"""The context that a technique is given in these tests: real data, a real trainer, a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_edge import Context

from .toys import toy_context


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return toy_context(tmp_path)
