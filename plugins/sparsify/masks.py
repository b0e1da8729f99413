"""The masks on the weights, and which weights they remove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from nas_edge import Split

from ..parametrized import attached, chain_of
from .scores import magnitudes, sensitivities

if TYPE_CHECKING:
    from . import SparsifyConfig


class Mask(nn.Module):
    """Holds the removed weights at exactly 0: they get no gradient, while what they were stays stored before it.

    `removed` is bool in the weight's shape. `recovered` is False where its last change came at the end of a
    schedule, with no epoch left for recovery.
    """

    removed: torch.Tensor

    def __init__(self, removed: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("removed", removed)
        self.recovered = True

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.masked_fill(self.removed, 0.0)


MaskedLayer = tuple[str, nn.Module, Mask]


def masks_of(model: nn.Module) -> list[MaskedLayer]:
    """The masked layers: their names, they, and the mask."""
    return cast(list[MaskedLayer], attached(model, Mask))


def dense_weight(layer: nn.Module, mask: Mask) -> torch.Tensor:
    """What a mask is given: the weights as they are trained, removed ones too."""
    chain = chain_of(layer)
    weight = chain.original
    for each in chain:
        if each is mask:
            break
        weight = each(weight)
    return weight.detach()


def update_masks(model: nn.Module, config: SparsifyConfig, amount: float, examples: Split | None) -> list[str]:
    """Choose anew, from the dense weights, what the masks of a model remove; in place.

    `amount` is the sparsity or the threshold to apply. Scores are sensitivities on the `examples`, magnitudes without
    them. Gives the names of the layers that would have lost everything, and kept their best weight.
    """
    found = masks_of(model)
    layers = [layer for _, layer, _ in found]
    weights = [dense_weight(layer, mask) for _, layer, mask in found]
    if examples is not None:
        scores = sensitivities(model, layers, weights, examples)
    else:
        scores = [magnitudes(w, config.score) for w in weights]
    chosen = choose(scores, config, amount)
    rescued = keep_one(chosen, scores)
    for (_, _, mask), removed in zip(found, chosen, strict=True):
        mask.removed.copy_(removed)
    return [found[i][0] for i in rescued]


def choose(scores: Sequence[torch.Tensor], config: SparsifyConfig, amount: float) -> list[torch.Tensor]:
    """Which weights to remove, bool in the shapes of the scores of each layer.

    Those with a score below `amount` with the mode "threshold", else the share `amount` of the smallest, to the nearest
    whole number; of equal scores the first go first. In the scope "relative" scores are in units of their layer's mean.
    """
    if config.scope == "relative":
        scores = [s / s.mean().clamp_min(torch.finfo(s.dtype).tiny) for s in scores]
    if config.mode == "threshold":
        return [s < amount for s in scores]
    if config.scope == "layer":
        return [_smallest(s, amount) for s in scores]
    together = _smallest(torch.cat([s.flatten() for s in scores]), amount)
    parts = together.split([s.numel() for s in scores])
    return [part.view(s.shape) for part, s in zip(parts, scores, strict=True)]


def keep_one(chosen: Sequence[torch.Tensor], scores: Sequence[torch.Tensor]) -> list[int]:
    """Take the best weight of each layer that would lose all of them back out, in place; gives these layers' indices.

    A layer of zeros cuts the network in two (layer collapse: Tanaka et al. 2020).
    """
    lost = [i for i, removed in enumerate(chosen) if bool(removed.all())]
    for i in lost:
        chosen[i][torch.unravel_index(scores[i].argmax(), scores[i].shape)] = False
    return lost


def _smallest(scores: torch.Tensor, share: float) -> torch.Tensor:
    flat = scores.flatten()
    removed = torch.zeros_like(flat, dtype=torch.bool)
    removed[torch.argsort(flat, stable=True)[: round(share * len(flat))]] = True
    return removed.view(scores.shape)
