"""Attention heads as groups: how a network offers its heads for cutting, and how they are cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from .groups import MARKED, UNTRACEABLE, Part, PruningGroup


@runtime_checkable
class HeadedAttention(Protocol):
    """An attention whose heads can be cut: any `nn.Module` with these three attributes, whatever package it is from.

    `head_outputs` names the layers within it whose output channels are split into heads (queries, keys, values), and
    `head_inputs` those whose input channels are (the projection behind them). In each of them the heads must be
    consecutive blocks of equally many channels, head 0 first. Cutting takes a head's block out of all of these layers,
    which must be `nn.Conv2d` without groups or `nn.Linear`, and lowers `heads`, which `forward` must read on each call.
    At least one head stays.

    Without this protocol the channels of such layers cannot be cut. Mark a layer whose outputs other code splits with
    `nas_edge_keep_channels = True`; the same mark on the attention keeps all its heads.
    """

    heads: int
    head_outputs: Sequence[str]
    head_inputs: Sequence[str]


def head_groups(model: nn.Module, marked: set[nn.Module]) -> tuple[list[PruningGroup], set[nn.Module]]:
    """A group for each attention that offers its heads, and the layers whose output channels those are."""
    groups, layers = [], set()
    for name, module in model.named_modules():
        held = module in marked
        if isinstance(module, HeadedAttention):
            groups.append(_group(name, module, held))
            layers |= set(_named(module, module.head_outputs))
    return groups, layers


def _group(name: str, attention: HeadedAttention, marked: bool) -> PruningGroup:
    outputs = _named(attention, attention.head_outputs)
    inputs = _named(attention, attention.head_inputs)
    fits = all(_splits(layer, 0, attention.heads) for layer in outputs)
    fits = fits and all(_splits(layer, 1, attention.heads) for layer in inputs)
    why = MARKED if marked else None if fits else UNTRACEABLE
    parts: tuple[Part, ...] = ()
    if why is None:
        parts = tuple(_part(layer, 0, attention.heads) for layer in outputs)
        parts += tuple(_part(layer, 1, attention.heads) for layer in inputs)
    width = max((len(part.channels) // attention.heads for part in parts), default=1)
    cut = partial(_drop_heads, attention, parts)
    return PruningGroup(name, attention.heads, width, parts, why, cut, is_attention=True)


def _named(attention: HeadedAttention, names: Iterable[str]) -> list[nn.Module]:
    assert isinstance(attention, nn.Module)
    return [attention.get_submodule(name) for name in names]


def _splits(layer: nn.Module, dim: int, heads: int) -> bool:
    """Whether the channels of a layer can be the blocks of so many heads."""
    if type(layer) not in (nn.Conv2d, nn.Linear) or getattr(layer, "groups", 1) != 1:
        return False
    weight = layer.weight
    return isinstance(weight, torch.Tensor) and weight.shape[dim] % heads == 0


def _part(layer: nn.Module, dim: int, heads: int) -> Part:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    channels = layer.weight.shape[dim]
    units = torch.arange(heads).repeat_interleave(channels // heads)
    return Part(layer, dim, torch.arange(channels), units, reads=dim == 1)


def _drop_heads(attention: HeadedAttention, parts: Sequence[Part], heads: list[int]) -> None:
    """Remove heads from every layer that they stand in."""
    for part in parts:
        keep_channels(part.layer, part.dim, part.channels[~torch.isin(part.units, torch.tensor(heads))])
    attention.heads -= len(heads)


def keep_channels(layer: nn.Module, dim: int, kept: torch.Tensor) -> None:
    """Leave a layer some of its output channels (`dim` 0) or input channels (1), in place."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    for name in ("weight", "bias") if dim == 0 else ("weight",):
        old = getattr(layer, name)
        if old is not None:
            new = old.detach().index_select(dim, kept.to(old.device))
            setattr(layer, name, nn.Parameter(new, requires_grad=old.requires_grad))
    kind = "channels" if isinstance(layer, nn.Conv2d) else "features"
    setattr(layer, f"{'out' if dim == 0 else 'in'}_{kind}", len(kept))
