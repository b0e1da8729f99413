"""Batch normalisation as what it is after training: a factor and a shift a channel."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from ..parametrized import chain_of
from .placement import Network, Norm


def folding(norm: Norm) -> tuple[Tensor, Tensor]:
    """Batch normalisation in evaluation is `factor * x + shift`, both `[channels]`.

    `factor = weight / sqrt(running_var + eps)` and `shift = bias - running_mean * factor` (Jacob et al. 2018, equation
    14). Raises `ValueError` for one that keeps no running statistics.
    """
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError(f"{norm} keeps no running statistics")
    factor = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.detach()
    shift = -mean * factor
    return factor, shift if norm.bias is None else shift + norm.bias.detach()


def by_channel(values: Tensor, like: Tensor) -> Tensor:
    """Values `[out]` in a shape to multiply a weight `[out, ...]` by."""
    return values.view(-1, *[1] * (like.ndim - 1))


@torch.no_grad()
def fold_norms(network: Network) -> fx.GraphModule:
    """Fold each batch normalisation that belongs to a layer into its weight and bias: in place."""
    for node in network.nodes:
        layer = network.layer(node)
        found = network.norm(node) if layer is not None else None
        if layer is None or found is None:
            continue
        reader, norm = found
        factor, shift = folding(norm)
        # The parameter that a weight is, or is computed from: by a mask, for instance.
        weight = chain_of(layer).original if parametrize.is_parametrized(layer, "weight") else layer.weight
        weight.mul_(by_channel(factor, weight))
        layer.bias = nn.Parameter(shift if layer.bias is None else layer.bias * factor + shift)
        reader.replace_all_uses_with(node)
        network.traced.graph.erase_node(reader)
    network.traced.delete_all_unused_submodules()
    network.traced.recompile()
    return network.traced
