"""Which CPUs compute sums of 8-bit products exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXACT = ("aarch64", "arm", "loongarch", "ppc", "riscv", "s390")  # how `platform.machine()` begins there
VNNI = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})  # a CPU with AMX has VNNI too


def int8_saturates(fingerprint: Mapping[str, Any]) -> bool:
    """Whether ONNX Runtime's CPU kernels on a target may saturate where they add up 8-bit products.

    On x86 without VNNI the product of an 8-bit activation and an 8-bit weight is added to its neighbour's in 16 bits:
    `2 * 255 * 127` does not fit, `2 * 255 * 63` does. So weights of 7 bits are safe everywhere, and with 8 a layer may
    be far off there. A target that does not say what it is counts as one that saturates.
    """
    exact = str(fingerprint.get("architecture") or "").lower().startswith(EXACT)
    return not exact and not VNNI & set(fingerprint.get("instruction_sets") or ())
