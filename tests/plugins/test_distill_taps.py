"""Where distillation looks into a network."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from nas_edge import InvalidCandidate, import_torchvision
from nas_edge_plugins.distill.taps import Recorder, Tap, embedding, feature_maps, from_the_deepest
from nas_edge_spaces.mobilenet import MobileNetSpace

from .toys import SIDE, TOYS, Residual, conv, head, inputs, toy


def image(side: int = SIDE, channels: int = 3) -> Tensor:
    return torch.full((1, channels, side, side), 128, dtype=torch.uint8)


def maps(model: nn.Module, side: int = SIDE) -> dict[str, tuple[int, ...]]:
    return {tap.name: tap.shape for tap in feature_maps(model, image(side))}


def torchvision_model(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = import_torchvision().models.get_model(name, weights=None, num_classes=7)
    return model


def test_stages_of_known_networks_are_found() -> None:
    assert maps(torchvision_model("resnet18"), 64) == {
        "relu": (64, 32, 32),
        "layer1": (64, 16, 16),
        "layer2": (128, 8, 8),
        "layer3": (256, 4, 4),
        "layer4": (512, 2, 2),
    }
    assert maps(torchvision_model("mobilenet_v2"), 64) == {  # not the expansions before the strides
        "features.1": (16, 32, 32),
        "features.3": (24, 16, 16),
        "features.6": (32, 8, 8),
        "features.13": (96, 4, 4),
        "features": (1280, 2, 2),
    }


def test_the_classes_of_a_convolutional_classifier_are_no_features() -> None:
    model = torchvision_model("squeezenet1_1")
    assert list(maps(model, 64))[-1] == "features"
    tap = embedding(model, image(64))
    assert (tap.name, tap.shape) == ("classifier.1", (512, 3, 3))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", {"1.2": (32, 8, 8), "1.8": (64, 4, 4), "1.9": (64, 2, 2)}),
        ("depthwise", {"1.8": (64, 8, 8)}),
        ("inverted_residual", {"1.4": (24, 8, 8)}),
        ("squeeze_excite", {"1.3": (32, 8, 8)}),
        ("spatial_attention", {"1.6": (48, 8, 8)}),
        ("self_attention", {"1.6": (48, 4, 4)}),
    ],
)
def test_the_last_map_of_each_resolution(name: str, expected: dict[str, tuple[int, ...]]) -> None:
    assert maps(toy(name)) == expected


def test_stages_of_our_own_space_are_found() -> None:
    space = MobileNetSpace()
    network = space.build(space.largest(), in_channels=3, num_classes=5, resolution=32)
    found = maps(nn.Sequential(nn.Identity(), network), 32)
    assert all("." not in name.removeprefix("1.") for name in found), found
    assert list(found)[-1] == "1.head"
    sides = [shape[1] for shape in found.values()]
    assert sides == sorted(set(sides), reverse=True)


def test_a_resized_input_is_no_feature() -> None:
    assert maps(toy("depthwise", resolution=32)) == {"1.8": (64, 16, 16)}


def test_parametrized_decomposed_and_repeated_layers() -> None:
    """A computed weight is no map, nor is what lies between k x 1 and 1 x k, nor a layer that acts twice."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3, padding=1)
            self.act = nn.ReLU()
            self.second = nn.Sequential(
                nn.Conv2d(4, 4, (3, 1), (2, 1), (1, 0)), nn.Conv2d(4, 8, (1, 3), (1, 2), (0, 1))
            )
            self.classify = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.second(self.act(self.first(x))))
            out: Tensor = self.classify(x.mean((2, 3)))
            return out

    model = Twice()
    nn.utils.parametrize.register_parametrization(model.first, "weight", nn.Identity())
    assert maps(model) == {"first": (4, 16, 16), "second": (8, 8, 8)}


def test_a_container_over_several_resolutions_is_looked_into() -> None:
    blocks = nn.Sequential(
        Residual(*conv(8, 8)), nn.Sequential(*conv(8, 24, 1), *conv(24, 16, stride=2)), *conv(16, 16, stride=2)
    )
    model = nn.Sequential(*conv(3, 8), blocks, *head(16))
    assert maps(model) == {"2.0": (8, 16, 16), "2.1": (16, 8, 8), "2": (16, 4, 4)}


@pytest.mark.parametrize("name", TOYS)
def test_looking_changes_nothing(name: str) -> None:
    model = toy(name).train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    feature_maps(model, image())
    tap = embedding(model, image())
    assert tap.taken and tap.name == f"1.{len(model.get_submodule('1')) - 1}"  # type: ignore[arg-type]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training and not m._forward_hooks for m in model.modules())


def test_a_network_without_maps_or_layers_is_refused() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 5))
    with pytest.raises(InvalidCandidate, match=r"method='features' and 'attention' need .*use method='outputs'"):
        feature_maps(flat, image())
    with pytest.raises(InvalidCandidate, match=r"method='relations' needs .*use method='outputs'"):
        embedding(nn.Flatten(), image())


def test_maps_are_matched_from_the_deepest() -> None:
    student = [Tap(f"s{i}", (1, i, i)) for i in (16, 8)]
    teacher = [Tap(f"t{i}", (1, i, i)) for i in (32, 16, 8, 4)]
    named = [[(s.name, t.name) for s, t in from_the_deepest(student, teacher, depths)] for depths in (1, 3)]
    assert named == [[("s8", "t4")], [("s16", "t8"), ("s8", "t4")]]


def test_a_recorder_keeps_what_the_taps_give_until_it_is_removed() -> None:
    model = toy("plain").eval()
    taps = [*feature_maps(model, image()), embedding(model, image())]
    recorder = Recorder(model, taps)
    x = inputs()
    with torch.no_grad():
        model(x)
        kept = recorder.take()
        expected = [model[0](x)]
        for layer in model[1].children():
            expected.append(layer(expected[-1]))
    for tap, tensor in zip(taps[:3], kept, strict=False):
        torch.testing.assert_close(tensor, expected[int(tap.name.split(".")[1]) + 1])
    torch.testing.assert_close(kept[3], expected[-2])
    copy.deepcopy(model)(x)  # a copy made meanwhile can be made and run
    recorder.remove()
    pickle.dumps(model)
    assert not any(m._forward_hooks for m in model.modules())
    model(x)
    with pytest.raises(KeyError):
        recorder.take()


def test_halves_are_kept_as_floats() -> None:
    model = toy("plain").eval()
    recorder = Recorder(model, feature_maps(model, image()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(inputs()).dtype == torch.bfloat16
    assert {tensor.dtype for tensor in recorder.take()} == {torch.float32}
