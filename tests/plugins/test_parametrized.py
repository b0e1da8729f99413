"""Parametrizations act in order, leave no trace once baked, and copies of a model do not share them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nas_edge_plugins.parametrized import attach, attached, bake


class Double(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


class AddOne(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + 1


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def weight_of(layer: nn.Module) -> torch.Tensor:
    assert isinstance(layer.weight, torch.Tensor)
    return layer.weight


def images() -> torch.Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_they_act_in_the_order_of_attaching() -> None:
    model = network()
    weight = weight_of(model[0]).detach().clone()
    attach(model[0], Double())
    attach(model[0], AddOne())
    torch.testing.assert_close(weight_of(model[0]), 2 * weight + 1)
    assert [(name, type(each)) for name, _, each in attached(model, Double)] == [("0", Double)]
    assert [(name, layer) for name, layer, _ in attached(model, nn.Module)] == [("0", model[0])] * 2
    assert attached(model, nn.ReLU) == []


@pytest.mark.parametrize("requires_grad", [True, False])
def test_a_baked_layer_is_a_plain_one(requires_grad: bool) -> None:
    model = network()
    weight_of(model[3]).requires_grad_(requires_grad)
    weight, names = weight_of(model[3]).detach().clone(), list(model.state_dict())
    attach(model[3], AddOne())
    bake(model, AddOne)
    assert type(model[3]) is nn.Linear
    assert sorted(model.state_dict()) == sorted(names)
    assert isinstance(weight_of(model[3]), nn.Parameter)
    assert weight_of(model[3]).requires_grad == requires_grad
    torch.testing.assert_close(weight_of(model[3]).detach(), weight + 1)


def test_those_attached_later_keep_acting() -> None:
    model, x = network(), images()
    for layer in (model[0], model[3]):
        attach(layer, Double())
    attach(model[0], AddOne())
    expected, weight = model(x).detach(), weight_of(model[0]).detach().clone()
    bake(model, Double)
    assert attached(model, Double) == []
    assert type(model[3]) is nn.Linear
    torch.testing.assert_close(weight_of(model[0]).detach(), weight)
    torch.testing.assert_close(model(x).detach(), expected)
    bake(model, AddOne)
    torch.testing.assert_close(model(x).detach(), expected)
    assert type(model[0]) is nn.Conv2d


def test_the_wrong_order_is_refused() -> None:
    model = network()
    attach(model[0], Double())
    attach(model[0], AddOne())
    with pytest.raises(ValueError, match=r"0\.weight: Double acts before AddOne; bake it first"):
        bake(model, AddOne)


@pytest.mark.parametrize("first", ["copy", "original"])
def test_copies_are_baked_apart(first: str) -> None:
    """Torch has a copy share the class that holds the weight's property."""
    model, x = network(), images()
    attach(model[0], Double())
    expected = model(x).detach()
    other = copy.deepcopy(model)
    one, two = (other, model) if first == "copy" else (model, other)
    bake(one, Double)
    torch.testing.assert_close(two(x).detach(), expected)
    assert len(attached(two, Double)) == 1
    bake(two, Double)
    for baked in (one, two):
        assert type(baked[0]) is nn.Conv2d
        torch.testing.assert_close(baked(x).detach(), expected)
    third = copy.deepcopy(one)
    attach(third[0], AddOne())
    torch.testing.assert_close(one(x).detach(), expected)


def test_baked_weights_still_train() -> None:
    model, x = network(), images()
    attach(model[0], Double())
    bake(model, Double)
    model(x).square().sum().backward()
    gradient = weight_of(model[0]).grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0
