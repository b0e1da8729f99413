"""The kernels of the walk against those of ONNX Runtime's own optimised graph, one for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_edge.latency.probes import random_probe

from .families import FAMILIES, quantized
from .optimised import ours, theirs

# ours - theirs, where they are known to differ: (family, int8) -> kernels.
KNOWN: dict[tuple[str, bool], dict[str, int]] = {}

pytestmark = pytest.mark.skipif(
    "avx512f" not in Path("/proc/cpuinfo").read_text(), reason="the walk's blocks of 16 channels are those of AVX-512"
)


def difference(model: object) -> dict[str, int]:
    return {}
