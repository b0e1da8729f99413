"""Truncated singular values of the layers that are a matrix."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

KEEP_MARK = "nas_edge_keep_channels"


def is_matrix(layer: nn.Module) -> bool:
    """Whether a layer is a plain matrix: Linear, or a 1x1 convolution without groups. Subclasses may hide more."""
    if type(layer) is nn.Linear:
        return True
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == (1, 1)
        and layer.groups == 1
        and (layer.padding_mode == "zeros" or layer.padding == (0, 0))
    )


def rank_for_energy(singular_values: torch.Tensor, energy: float, multiple: int) -> int:
    """The least rank whose squared singular values sum to `energy` of all, rounded up to a multiple."""
    kept = torch.cumsum(singular_values.double() ** 2, dim=0)
    total = float(kept[-1])
    needed = 1 if total == 0 else int(torch.searchsorted(kept, energy * total)) + 1
    rank = math.ceil(min(needed, len(kept)) / multiple) * multiple
    return min(rank, len(kept))


def factors(weight: torch.Tensor, energy: float, multiple: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`[rank, in]` and `[out, rank]` whose product is the best approximation of a weight `[out, in]` at that rank.

    The square root of the singular values goes to each, so that both train at the same pace.
    """
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    rank = rank_for_energy(values, energy, multiple)
    root = values[:rank].sqrt()
    first, second = root[:, None] * right[:rank], left[:, :rank] * root
    return first.to(weight.dtype), second.to(weight.dtype)


def _layer_of(weight: torch.Tensor, like: nn.Linear | nn.Conv2d, bias: torch.Tensor | None) -> nn.Linear | nn.Conv2d:
    """A layer of the same kind, of stride 1, with this weight `[out, in]`."""
    outputs, inputs = weight.shape
    with torch.random.fork_rng(devices=[]):  # a new layer draws initial weights
        layer: nn.Linear | nn.Conv2d = (
            nn.Linear(inputs, outputs, bias=bias is not None)
            if isinstance(like, nn.Linear)
            else nn.Conv2d(inputs, outputs, 1, bias=bias is not None)
        )
    trains = like.weight.requires_grad
    layer.weight = nn.Parameter(weight.reshape(layer.weight.shape), requires_grad=trains)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=trains)
    return layer.train(like.training)


def factored(layer: nn.Linear | nn.Conv2d, energy: float, multiple: int) -> nn.Sequential | None:
    """Two layers in place of one, or None where they would not have fewer parameters."""
    weight = layer.weight.detach().flatten(1)
    narrow, wide = factors(weight, energy, multiple)
    if narrow.numel() + wide.numel() >= weight.numel():
        return None
    first, second = _layer_of(narrow, layer, None), _layer_of(wide, layer, layer.bias)
    if isinstance(first, nn.Conv2d) and isinstance(layer, nn.Conv2d):
        first.stride, first.padding = layer.stride, layer.padding  # fewer pixels, and before the bias
    pair = nn.Sequential(first, second).train(layer.training)
    if hasattr(layer, KEEP_MARK):
        for part in (pair, second):
            setattr(part, KEEP_MARK, getattr(layer, KEEP_MARK))
    return pair


def factor_layers(model: nn.Module, energy: float, multiple: int) -> tuple[nn.Module, str]:
    """A copy with its matrices factored where that saves parameters, and what was done in words."""
    model = copy.deepcopy(model)
    layers = [(n, m) for n, m in model.named_modules() if is_matrix(m)]
    done, left = 0, []
    for name, layer in layers:
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        pair = factored(layer, energy, multiple)
        if pair is None:
            left.append(name)
            continue
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, pair)
        done += 1
    report = f"factored {done} of {len(layers)} linear and pointwise layers"
    if left:
        shown = ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
        report += f"; left alone, for their factors would be as large: {shown}"
    return model, report
