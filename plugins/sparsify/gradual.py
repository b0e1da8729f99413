"""The schedule that removes a little more after each epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

from nas_edge import Objective, Split

from .masks import masks_of, update_masks

if TYPE_CHECKING:
    from . import SparsifyConfig


def pruning_epochs(epochs: int) -> int:
    """How many epochs end with a removal: the first half. In the second the learning rate still allows recovery."""
    return math.ceil(epochs / 2)


def cubic(final: float, epoch: int, epochs: int) -> float:
    """What is applied after an epoch, 1 to `epochs`: s_f (1 - (1 - t / n)^3) (Zhu & Gupta 2017, eq. 1, with s_i = 0).

    t is the epoch, s_f `final` and n `pruning_epochs`; after them it stays at s_f.
    """
    return final * (1 - max(0.0, 1 - epoch / pruning_epochs(epochs)) ** 3)


class Gradual(Objective):
    """Applies `cubic` of the sparsity (or of the threshold), to masks chosen anew each time from the dense weights."""

    def __init__(self, config: SparsifyConfig, examples: Split | None) -> None:
        self.config = config
        self.examples = examples

    def epoch_end(self, model: nn.Module, epoch: int, epochs: int) -> None:
        if epoch > pruning_epochs(epochs):
            return
        update_masks(model, self.config, cubic(self.config.amount, epoch, epochs), self.examples)
        for _, _, mask in masks_of(model):
            mask.recovered = epoch < epochs
