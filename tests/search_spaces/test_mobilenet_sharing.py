"""The weights that mobilenet's networks share: every network has its own, and none twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas_edge.train.supernet import SharedWeights
from nas_edge_spaces.mobilenet.sharing import shared_name

from .networks import SPACE, sample

SIDE = 32


def build(params: Any) -> torch.nn.Module:
    size = SPACE.input_size(params, SIDE)
    return SPACE.build(params, in_channels=3, num_classes=7, resolution=size)


@pytest.fixture(scope="module")
def shared() -> SharedWeights:
    return SharedWeights.of(SPACE.supernet(), build)


def test_every_network_finds_all_its_weights_and_none_twice(shared: SharedWeights) -> None:
    for params in [*sample(60, 0), SPACE.largest(), SPACE.supernet().smallest]:
        network = build(params)
        parts = shared.parts(params, network)
        assert {n: t.shape for n, t in parts.items()} == {n: p.shape for n, p in network.named_parameters()}
        names = [shared_name(params, name) for name in parts]
        assert len(set(names)) == len(names)


def test_layers_that_stand_for_each_other_share() -> None:
    base: dict[str, Any] = {"depth": 2, "width": 32, "block": "inverted", "kernel": 5, "expansion": 3}

    def name(own: str, **changes: Any) -> str:
        first = {**base, "attention": "none", **changes}
        return shared_name({"stages": [first, base]}, own)

    wanted = "stage1.1.inverted.depthwise.0.weight"
    assert name("stage1.1.layers.1.0.weight") == wanted
    assert name("stage1.1.layers.1.0.weight", attention="se", kernel=3, expansion=6) == wanted
    assert name("stage1.2.layers.1.0.weight", attention="self") == wanted
    assert name("stage1.1.layers.3.0.weight", attention="se") == "stage1.1.inverted.project.0.weight"
    assert name("stage1.1.layers.0.0.weight", block="separable") == "stage1.1.separable.depthwise.0.weight"
    assert name("stage1.0.query.weight", attention="self") == "stage1.self.query.weight"
    assert name("head.0.weight") == "head2.0.weight"
    assert name("stem.0.weight") == "stem.0.weight"


def test_an_inherited_network_computes_what_its_own_weights_do(shared: SharedWeights) -> None:
    params = sample(1, 5)[0]
    network, size = build(params).eval(), SPACE.input_size(params, SIDE)
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        called = torch.func.functional_call(network, shared.parts(params, network), (images,))
        shared.load_into(params, network)
        torch.testing.assert_close(network(images), called)


def test_the_smallest_takes_the_fewest_multiply_adds() -> None:
    def macs(params: Any) -> float:
        network, size = build(params).eval(), SPACE.input_size(params, SIDE)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.rand(1, 3, size, size))
        return float(counter.get_total_flops()) / 2

    smallest = macs(SPACE.supernet().smallest)
    assert all(macs(params) >= smallest for params in sample(40, 1))


def test_whole_networks_are_of_the_space() -> None:
    for params in SPACE.supernet().whole:
        build(params)  # or it raises
