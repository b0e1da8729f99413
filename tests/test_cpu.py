"""What a target's fingerprint says of its kernels."""

from __future__ import annotations

from typing import Any

import pytest

from nas_edge import channel_block, int8_saturates


@pytest.mark.parametrize(
    ("about", "saturates"),
    [
        ({"architecture": "x86_64", "instruction_sets": ["avx", "avx2", "fma"]}, True),
        ({"architecture": "AMD64", "instruction_sets": []}, True),  # Windows tells no sets
        ({"architecture": "x86_64", "instruction_sets": ["avx2", "avx_vnni"]}, False),
        ({"architecture": "x86_64", "instruction_sets": ["avx512f", "avx512_vnni"]}, False),
        ({"architecture": "aarch64", "instruction_sets": ["asimd"]}, False),
        ({"architecture": "arm64", "instruction_sets": []}, False),
        ({"architecture": "armv7l"}, False),
        ({"architecture": "x86-64-v3", "instruction_sets": ["avx2"]}, True),
        ({"cpu": "somebody's"}, True),
    ],
)
def test_x86_without_vnni_saturates_and_who_does_not_say_might(about: dict[str, Any], saturates: bool) -> None:
    assert int8_saturates(about) is saturates


@pytest.mark.parametrize(
    ("about", "block"),
    [
        ({"architecture": "x86_64", "instruction_sets": ["avx2", "avx512f"]}, 16),
        ({"architecture": "x86_64", "instruction_sets": ["avx2", "avx512_vnni"]}, 16),
        ({"architecture": "x86_64", "instruction_sets": ["avx2", "avx_vnni"]}, 8),
        ({"architecture": "AMD64", "instruction_sets": []}, 8),
        ({"architecture": "aarch64", "instruction_sets": ["asimd", "asimddp"]}, 1),
        ({"architecture": "armv7l"}, 1),
        ({"table": "of somebody"}, 16),
    ],
)
def test_registers_decide(about: dict[str, Any], block: int) -> None:
    assert channel_block(about) == block
