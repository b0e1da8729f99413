"""What a target's instruction sets make of ONNX Runtime's kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_X86 = ("aarch64", "arm", "loongarch", "ppc", "riscv", "s390")  # how `platform.machine()` begins there
VNNI = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})  # a CPU with AMX has VNNI too
WIDEST, NARROW, PLAIN = 16, 8, 1


def int8_saturates(fingerprint: Mapping[str, Any]) -> bool:
    """Whether ONNX Runtime's CPU kernels on a target may saturate where they add up 8-bit products.

    On x86 without VNNI the product of an 8-bit activation and an 8-bit weight is added to its neighbour's in 16 bits:
    `2 * 255 * 127` does not fit, `2 * 255 * 63` does. So weights of 7 bits are safe everywhere, and with 8 a layer may
    be far off there. A target that does not say what it is counts as one that saturates.
    """
    return not _is_not_x86(fingerprint) and not VNNI & set(fingerprint.get("instruction_sets") or ())


def channel_block(fingerprint: Mapping[str, Any]) -> int:
    """The channels of a block in ONNX Runtime's float convolutions (MlasNchwcGetBlockSize) on a target.

    They fill a register: 16 with AVX-512, 8 on other x86 CPUs; the channels of a block that is not full cost as much as
    all of it. Elsewhere its usual builds leave channels as they are, which is 1. A target that names no architecture
    counts as one with AVX-512, an x86 CPU that names no sets as one without.
    """
    sets = fingerprint.get("instruction_sets") or ()
    if not fingerprint.get("architecture") or any(str(name).startswith("avx512") for name in sets):
        return WIDEST
    return PLAIN if _is_not_x86(fingerprint) else NARROW


def _is_not_x86(fingerprint: Mapping[str, Any]) -> bool:
    return str(fingerprint.get("architecture") or "").lower().startswith(NOT_X86)
