"""How many channels a block of a target's convolutions has, and what that changes of the work that is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas_edge import UserError, channel_block
from nas_edge.latency.calibrate import calibrate
from nas_edge.latency.graph import kernels_of
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.profile import Profile
from nas_edge.latency.walk import KernelWork
from nas_edge.targets.local import LocalTarget

from .networks import Network

ERROR = HeldOutError(0.02, 0.05, 0.8, 0.97, 80)


def convolution(filters: int, block: int) -> KernelWork:
    net = Network(16, 10)
    work = kernels_of(net.model(net.conv("input", filters, 16), 4), block=block)
    (found,) = [kernel for kernel in work.kernels if kernel.macs]
    return found


def test_a_narrower_block_pads_less_and_has_narrower_tiles() -> None:
    """20 filters are 32 in blocks of 16 and 24 in blocks of 8; 100 columns are tiles of 6 and 4 more, or of 3 and 1."""
    wide, narrow, plain = (convolution(20, block) for block in (16, 8, 1))
    assert (wide.kind, narrow.kind, plain.kind) == ("pointwise", "pointwise", "plain.pointwise")
    assert wide.features["mega_macs"] == pytest.approx(100 * 32 * 16 / 1e6)
    assert narrow.features["mega_macs"] == pytest.approx(100 * 24 * 16 / 1e6)
    assert plain.features["mega_macs"] == pytest.approx(100 * 20 * 16 / 1e6)
    assert wide.features["mega_odd_macs"] == pytest.approx(wide.features["mega_macs"] * 4 / 100)
    assert narrow.features["mega_odd_macs"] == pytest.approx(narrow.features["mega_macs"] * 1 / 100)
    assert wide.features["mega_macs_of_2_blocks"] == pytest.approx(wide.features["mega_macs"])
    assert narrow.features["mega_macs_of_3_blocks"] == pytest.approx(narrow.features["mega_macs"])
    assert wide.macs == narrow.macs == plain.macs == 100 * 20 * 16


def profile(block: int) -> Profile:
    return Profile("there", {"cpu": "x"}, LatencyModel(0.1, {}), ERROR, 0.01, 10.0, 0.1, block=block)


@pytest.mark.parametrize("block", [16, 8, 1])
def test_a_profile_keeps_its_block(block: int) -> None:
    assert Profile.from_json(profile(block).to_json()).block == block


def test_an_older_profile_has_the_blocks_that_it_was_fitted_to() -> None:
    older = profile(8).to_json()
    del older["block"]
    assert Profile.from_json(older) == replace(profile(8), block=16)


@pytest.mark.parametrize("block", [0, 4, 16.0, True, "8", None])
def test_another_block_is_damage(block: Any) -> None:
    with pytest.raises(UserError, match=f"damaged .*a block of {block!r} channels is not one of 16, 8 and 1"):
        Profile.from_json({**profile(16).to_json(), "block": block})


def test_an_earlier_profile_of_other_kernels_is_refused(tmp_path: Path) -> None:
    target = LocalTarget()
    here = channel_block(target.fingerprint())
    other = 24 - here if here > 1 else 16
    with pytest.raises(UserError, match=f"convolutions have {other} channels a block, and those of local have {here}"):
        calibrate(target, lambda index: Path(), work_dir=tmp_path, earlier=profile(other))
