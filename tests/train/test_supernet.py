"""Shared weights: which part of them a network has, and that all networks learn by training them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_edge import PluginError, Supernet
from nas_edge.config import TrainConfig
from nas_edge.train.supernet import ROUND_STEPS, SharedWeights, SupernetTrainer
from nas_edge.train.trainer import ImageTrainer

from ..plugins.toys import CLASSES, toy_data

DATA = toy_data()
LARGEST, SMALLEST = {"width": 12, "kernel": 5}, {"width": 4, "kernel": 3}
SUPERNET = Supernet(LARGEST, SMALLEST, [LARGEST], lambda params, name: f"the.{name}")


def build(params: Mapping[str, Any]) -> nn.Sequential:
    width, kernel = params["width"], params["kernel"]
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(DATA.channels, width, kernel, 2, kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, CLASSES),
    )


def draw(seed: int) -> dict[str, Any]:
    return {"width": 4 + seed % 9, "kernel": (3, 5)[seed // 9 % 2]}


def trainer(**config: Any) -> ImageTrainer:
    return ImageTrainer(DATA, TrainConfig.model_validate({"device": "cpu", "batch_size": 64, **config}), 0)


def trained(samples: int, checkpoint: Path | None = None, **hooks: Any) -> SharedWeights:
    shared = SharedWeights.of(SUPERNET, build)
    SupernetTrainer(trainer(), build, draw).fit(shared, samples=samples, checkpoint=checkpoint, **hooks)
    return shared


def test_a_network_has_the_first_channels_and_the_middle_of_kernels() -> None:
    shared = SharedWeights.of(SUPERNET, build)
    params = {"width": 7, "kernel": 3}
    network = build(params)
    shared.load_into(params, network)
    whole = shared.tensors
    assert torch.equal(network.get_parameter("0.weight"), whole["the.0.weight"][:7, :, 1:4, 1:4])
    assert torch.equal(network.get_parameter("1.bias"), whole["the.1.bias"][:7])
    assert torch.equal(network.get_parameter("3.weight"), whole["the.3.weight"][:14, :7])
    assert torch.equal(network.get_parameter("8.weight"), whole["the.8.weight"][:, :56])
    assert {name: tuple(t.shape) for name, t in whole.items()} == {
        f"the.{name}": tuple(p.shape) for name, p in build(LARGEST).named_parameters()
    }


def test_gradients_reach_the_shared_weights() -> None:
    """As those of the network itself, and zero elsewhere."""
    shared, params = SharedWeights.of(SUPERNET, build), {"width": 5, "kernel": 3}
    network, own = build(params), build(params)
    shared.load_into(params, own)
    images = DATA.train.images[:8].float() / 255
    torch.func.functional_call(network, shared.parts(params, network), (images,)).square().sum().backward()
    own(images).square().sum().backward()
    gradient = shared.tensors["the.0.weight"].grad
    assert gradient is not None
    torch.testing.assert_close(gradient[:5, :, 1:4, 1:4], own.get_parameter("0.weight").grad)
    assert gradient[5:].abs().sum() == 0 and gradient[:, :, 0].abs().sum() == 0


def test_all_networks_learn() -> None:
    shared, judge = trained(6400), trainer()
    for params in (LARGEST, SMALLEST, draw(3), draw(14)):
        network = build(params)
        before = judge.accuracy(network, DATA.train)
        shared.load_into(params, network)
        judge.recalibrate(network)
        assert judge.accuracy(network, DATA.train) > max(0.6, before + 0.2), params


def test_recalibration_measures_what_batch_norm_sees() -> None:
    network = build(LARGEST).eval()
    judge = trainer(batch_size=64)
    seen: list[Tensor] = []
    network[0].register_forward_hook(lambda _m, _i, output: seen.append(output.detach()))
    judge.recalibrate(network)
    means = torch.stack([output.mean((0, 2, 3)) for output in seen]).mean(0)
    torch.testing.assert_close(network[1].running_mean, means, rtol=1e-4, atol=1e-5)
    assert not network.training and network[1].momentum == 0.1


class Stop(Exception):
    pass


def test_an_interrupted_training_ends_as_a_whole_one(tmp_path: Path) -> None:
    samples, path = 3 * ROUND_STEPS * 64, tmp_path / "state.pt"
    shares: list[float] = []
    whole = trained(samples, each_round=shares.append)
    assert shares == pytest.approx([1 / 3, 2 / 3, 1.0])

    def stop(share: float) -> None:
        raise Stop

    with pytest.raises(Stop):
        trained(samples, path, each_round=stop)
    again: list[float] = []
    resumed = trained(samples, path, each_round=again.append)
    assert again == pytest.approx([2 / 3, 1.0])
    assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in whole.tensors.items())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_checkpoint_that_cannot_be_read_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.pt"
    shares: list[float] = []
    path.write_bytes(content)
    trained(64, path, each_round=shares.append)
    assert shares == [1.0]


def test_a_checkpoint_of_another_training_is_not_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    shares: list[float] = []
    trained(64, path)
    trained(128, path, each_round=shares.append)
    assert shares == [1.0] and torch.load(path, weights_only=True)["steps"] == 2


def test_what_is_not_shared_is_said() -> None:
    shared = SharedWeights.of(SUPERNET, build)
    too_wide = {"width": 13, "kernel": 3}
    with pytest.raises(PluginError, match=r"'the.0.weight' is \(12, \d, 5, 5\); '0.weight' of .*13.* is \(13"):
        shared.load_into(too_wide, build(too_wide))
    other = Supernet(LARGEST, SMALLEST, [LARGEST], lambda params, name: str(params["width"]) + name)
    with pytest.raises(PluginError, match=r"'40\.weight' is missing"):
        SharedWeights.of(other, build).load_into(SMALLEST, build(SMALLEST))
    halves = [{"width": 12, "kernel": 3}, {"width": 4, "kernel": 5}]
    with pytest.raises(PluginError, match=r"no architecture of `whole` has 'the\.0\.weight' in its full size"):
        SharedWeights.of(Supernet(LARGEST, SMALLEST, halves, SUPERNET.shared_name), build)
