"""Weights that are computed from trained ones while a network trains: masked, rounded to codes."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrize


def attach(layer: nn.Module, parametrization: nn.Module) -> None:
    """Let `layer.weight` be `parametrization` of what it was; several act in the order they were attached."""
    parametrize.register_parametrization(layer, "weight", parametrization)


def chain_of(layer: nn.Module) -> parametrize.ParametrizationList:
    """What computes the weight of a layer that something is attached to, with the trained weight in `original`."""
    return cast(parametrize.ParametrizationList, cast(nn.ModuleDict, layer.parametrizations)["weight"])


def attached(model: nn.Module, kind: type[nn.Module]) -> list[tuple[str, nn.Module, nn.Module]]:
    """The layers whose weight has a parametrization of a kind: their names, they, and it."""
    return [
        (name, layer, each)
        for name, layer in model.named_modules()
        if parametrize.is_parametrized(layer, "weight")
        for each in chain_of(layer)
        if isinstance(each, kind)
    ]


@torch.no_grad()
def bake(model: nn.Module, kind: type[nn.Module]) -> None:
    """Write what the first parametrization of each layer gives into its weight for good, where it is of a kind.

    In place, but copies of the model keep theirs. Those that were attached after it keep acting on the result. Raises
    `ValueError` where another kind comes before it: bake that one first.
    """
    for name, layer, each in attached(model, kind):
        chain = chain_of(layer)
        if chain[0] is not each:
            raise ValueError(f"{name}.weight: {type(chain[0]).__name__} acts before {kind.__name__}; bake it first")
        if len(chain) == 1:
            _own_class(layer)
            parametrize.remove_parametrizations(layer, "weight")
            continue
        chain.original.copy_(each(chain.original))
        del chain[0]


def _own_class(layer: nn.Module) -> None:
    """Give a layer a class of its own.

    Torch computes the weight in a property of the layer's class and removes it from there; but copies of a layer share
    its class, and would be left without a weight.
    """
    shared = type(layer)
    layer.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
