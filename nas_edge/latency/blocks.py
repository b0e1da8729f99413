"""How many channels a target's float convolutions keep together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_edge.int8 import EXACT

WIDEST, NARROW, PLAIN = 16, 8, 1


def channel_block(fingerprint: Mapping[str, Any]) -> int:
    """The channels of a block in ONNX Runtime's float convolutions (MlasNchwcGetBlockSize) on a target.

    They fill a register: 16 with AVX-512, 8 on other x86 CPUs. Elsewhere its usual builds leave channels as they are,
    which is 1. A target that names no architecture counts as one with AVX-512, an x86 CPU that names no sets as one
    without.
    """
    architecture = str(fingerprint.get("architecture") or "").lower()
    if not architecture or any(str(name).startswith("avx512") for name in fingerprint.get("instruction_sets") or ()):
        return WIDEST
    return PLAIN if architecture.startswith(EXACT) else NARROW
