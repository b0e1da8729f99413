"""Networks by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_edge import Augmentation, ImageData, Split, UserError
from nas_edge.data.preprocess import Preprocess
from nas_edge.model_names import ModelReference
from nas_edge.models import live_models, live_name, load_model

FUNCTIONS = """
import sys

import torch
from torch import nn

shared = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5))

def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5))

def same():
    return shared

def seven():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 7))

def grey():
    return nn.Conv2d(1, 5, 3)

def features():
    return nn.Identity()

def no_module():
    return 3

def fails():
    raise ValueError("no luck today")

def leaves():
    sys.exit(4)

def needs_more(width):
    return nn.Linear(width, 2)
"""


def data(side: int = 16, channels: int = 3, classes: int = 5) -> ImageData:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (8, channels, side, side), generator=draw, dtype=torch.uint8)
    split = Split(images, torch.arange(8) % classes)
    mean, std = (0.4,) * channels, (0.2,) * channels
    names = tuple(f"c{i}" for i in range(classes))
    return ImageData("drawn", names, split, split, split, mean, std, Augmentation(), "drawn", "none")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module of functions in it."""
    (tmp_path / "drawn_networks.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.modules.pop("drawn_networks", None)
    assert sys.path == before


def images(given: ImageData) -> Tensor:
    return given.train.images.float() / 255


def test_references_are_read() -> None:
    def read(text: str) -> tuple[Any, ...]:
        reference = ModelReference.parse(text)
        return reference.source, reference.name, reference.weights, reference.trained

    assert read("torchvision:resnet18") == ("torchvision", "resnet18", None, False)
    assert read("torchvision:resnet18:a/w.pt") == ("torchvision", "resnet18", Path("a/w.pt"), True)
    assert read("torchvision:resnet18:C:/w.pt") == ("torchvision", "resnet18", Path("C:/w.pt"), True)
    assert read("my.nets:small") == ("my.nets", "small", None, True)


@pytest.mark.parametrize("text", ["resnet18", "torchvision:", ":resnet18", "", "torchvision::w.pt"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"^model={text!r} is no network; give torchvision:NAME"):
        load_model(text, data())


def test_a_network_of_torchvision_stands_behind_its_preprocessing() -> None:
    given = data(side=40, channels=1)
    model = load_model("torchvision:shufflenet_v2_x0_5", given, seed=3)
    assert isinstance(model, nn.Sequential) and not model.training
    preprocess, network = model
    assert isinstance(preprocess, Preprocess) and preprocess.resolution == 40
    with torch.no_grad():
        expected = network((images(given) - 0.4) / 0.2)
        torch.testing.assert_close(model(images(given)), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (8, 5)
    again, other = (load_model("torchvision:shufflenet_v2_x0_5", given, seed=seed) for seed in (3, 4))
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert not all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


def test_small_images_are_enlarged() -> None:
    given = data(side=16)
    model = load_model("torchvision:shufflenet_v2_x0_5", given)
    assert model(images(given)).shape == (8, 5)
    preprocess = model.get_submodule("0")
    assert isinstance(preprocess, Preprocess) and preprocess(images(given)).shape[2:] == (32, 32)


@pytest.mark.parametrize("whole", [True, False], ids=["with preprocessing", "network alone"])
def test_weights_are_loaded(whole: bool, tmp_path: Path) -> None:
    given = data(side=40)
    model = load_model("torchvision:shufflenet_v2_x0_5", given, seed=1)
    path = tmp_path / "weights.pt"
    torch.save((model if whole else model.get_submodule("1")).state_dict(), path)
    state = torch.get_rng_state()
    elsewhere = replace(given, mean=(0.5,) * 3)  # the normalisation of the file counts, where it is there
    loaded = load_model(f"torchvision:shufflenet_v2_x0_5:{path}", elsewhere if whole else given)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        assert torch.equal(loaded(images(given)), model(images(given)))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    given, path = data(side=40), tmp_path / "weights.pt"
    for other, message in [
        (data(side=40, classes=9), "has weights for 9 classes but the data has 5; train it on this data, or leave"),
        (data(side=40, channels=1), "has weights for 1 channels but the data has 3; train"),
    ]:
        torch.save(load_model("torchvision:shufflenet_v2_x0_5", other).get_submodule("1").state_dict(), path)
        reference = f"torchvision:shufflenet_v2_x0_5:{path}"
        with pytest.raises(UserError) as caught:
            load_model(reference, given)
        assert str(caught.value).startswith(f"model={reference!r} {message}")
    with pytest.raises(UserError, match=r"does not have these weights: the file has no .* and also .* more; give a"):
        load_model(f"torchvision:resnet18:{path}", given)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_files_that_are_no_state_dicts_are_refused_and_run_no_code(tmp_path: Path) -> None:
    path, trap = tmp_path / "weights.pt", tmp_path / "sprung"
    network = nn.Linear(2, 2)
    contents: list[tuple[Any, str]] = [
        (Trap(trap), r"no state dict, which torch.load\(weights_only=True\) reads"),
        (network, r"no state dict, which torch.load\(weights_only=True\) reads"),
        ({"epoch": 3, "state_dict": network.state_dict()}, "a mapping with epoch, state_dict, no state dict of names"),
        ([1, 2], "a list, no state dict"),
        ({}, "no state dict"),
    ]
    for content, message in contents:
        torch.save(content, path)
        with pytest.raises(UserError, match=f"{message}.*; save one with torch.save"):
            load_model(f"torchvision:resnet18:{path}", data(side=40))
    path.write_bytes(b"no weights at all")
    with pytest.raises(UserError, match="; save one with "):
        load_model(f"torchvision:resnet18:{path}", data(side=40))
    assert not trap.exists()
    with pytest.raises(UserError, match=r"has no file of weights .*gone.pt'; give the path"):
        load_model("torchvision:resnet18:gone.pt", data(side=40))


def test_a_name_that_torchvision_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match=r"^model='torchvision:resnet19': unknown .*'resnet19'; did you mean 'resnet1"):
        load_model("torchvision:resnet19", data())


def test_a_function_of_the_current_folder_gives_a_network(folder: Path) -> None:
    given = data()
    model = load_model("drawn_networks:flat", given, seed=2)
    assert isinstance(model, nn.Sequential) and len(model) == 2 and not model.training
    torch.save(model.state_dict(), folder / "w.pt")
    loaded = load_model("drawn_networks:flat:w.pt", given)
    assert torch.equal(loaded(images(given)), model(images(given)))
    shared = load_model("drawn_networks:same", given)
    assert shared is not sys.modules["drawn_networks"].shared
    assert sys.modules["drawn_networks"].shared.training


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seven", "gives 7 classes but the data has 5; train it on this data"),
        ("grey", "does not run on images of 3x16x16: RuntimeError: .*; give a network for such images in 0..1"),
        ("features", r"gives \[2, 3, 16, 16\] for 2 images; it must give \[2, 5\]"),
        ("no_module", "gave int; it must return a torch.nn.Module"),
        ("fails", "raised ValueError: no luck today; it is called without arguments"),
        ("leaves", "raised SystemExit: 4; "),
        ("needs_more", "raised TypeError: needs_more.* missing 1 required .*; it is called without arguments"),
        ("flatt", "names no function; unknown function 'flatt'; did you mean 'flat'"),
        ("shared_", "names no function; "),
    ],
)
def test_a_function_that_gives_no_such_network_is_refused(name: str, message: str, folder: Path) -> None:
    with pytest.raises(UserError, match=f"^model='drawn_networks:{name}' {message}"):
        load_model(f"drawn_networks:{name}", data())


def test_a_module_that_cannot_be_imported_is_refused(folder: Path) -> None:
    (folder / "broken_networks.py").write_text("import sys\nsys.exit(1)\n")
    with pytest.raises(UserError, match=r"cannot be imported: ModuleNotFoundError: .*; install its package, or run"):
        load_model("no_such_networks:flat", data())
    with pytest.raises(UserError, match=r"^distill: teacher='broken_networks:flat' cannot be imported: SystemExit: 1"):
        load_model(ModelReference.parse("broken_networks:flat", "distill: teacher"), data())


def test_an_object_of_python_has_the_name_of_its_class_and_weights() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5), nn.BatchNorm1d(5)).to(torch.float32).train()
    name = live_name(network)
    with live_models({name: network}):
        loaded = load_model(name, data())
        assert loaded is not network and not loaded.training and network.training
        assert live_name(loaded) == name and name.startswith("python:Sequential-")
    with pytest.raises(UserError, match=f"model='{name}' was given from Python as an object, which this process does"):
        load_model(name, data())
    with torch.no_grad():
        next(network.parameters())[0] += 1
    assert live_name(network) != name
