"""How important each channel or head of a group is: a sum over the layers of its group, float64 `[units]`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from nas_edge import Split

from .groups import PruningGroup

BATCH = 32
Batch = tuple[torch.Tensor, torch.Tensor]
Batches = Iterable[Batch]
NEEDS_DATA = frozenset({"activation", "taylor"})


def importances(
    model: nn.Module, groups: Sequence[PruningGroup], criterion: str, batches: Batches
) -> list[torch.Tensor]:
    """The importance of every unit of every group by a criterion, `[units]` each.

    "l1" is the sum of |w| (Li et al. 2017, section 3.1) and "l2" that of w^2, over all the weights w of a unit in the
    layers of its group: filters `[out, in, height, width]`, what reads them, scales of batch norm. For the others see
    `_activations` and `_contributions`.
    The model must be in evaluation mode, with parameters that take gradients; `batches` of images in 0..1 and labels
    are drawn only for the criteria in `NEEDS_DATA`.
    """
    if criterion == "activation":
        return _activations(model, groups, batches)
    if criterion == "taylor":
        return _contributions(model, groups, batches)
    norm = {"l1": 1, "l2": 2}[criterion]
    return [_summed(g, lambda p: p.detach().double().abs().pow(norm), ("weight",)) for g in groups]


def training_batches(split: Split, images: int, seed: int, device: torch.device) -> Iterator[Batch]:
    """So many images of a split, drawn without replacement, in 0..1 `[batch, channels, height, width]`; and labels."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    for chosen in order[:images].split(BATCH):
        yield split.images[chosen].to(device).float() / 255, split.labels[chosen].to(device)


def _summed(group: PruningGroup, values: Callable[[nn.Parameter], torch.Tensor], names: Sequence[str]) -> torch.Tensor:
    """The sum of a value of each parameter over all that belongs to a unit `[units]`."""
    total = torch.zeros(group.units, dtype=torch.float64)
    for part in group.parts:
        for name in names:
            parameter = getattr(part.layer, name, None)
            if parameter is None or (name == "bias" and part.dim == 1):
                continue
            rows = values(parameter).transpose(0, part.dim)[part.channels]
            total.index_add_(0, part.units, rows.double().reshape(len(rows), -1).sum(1).cpu())
    return total


def _contributions(model: nn.Module, groups: Sequence[PruningGroup], batches: Batches) -> list[torch.Tensor]:
    """|sum over the group of gradient times parameter|, averaged over batches, in units of the loss.

    Cross-entropy E changes by about -sum_s g_s w_s, with g_s = dE/dw_s, when all of a unit's parameters w_s become
    zero: weights, biases, and the scales and shifts of its batch norm (Molchanov et al. 2019, section 3.1, whose
    square orders a batch's units alike). Absolute values are averaged, for at a minimum the gradients of all data
    together vanish.
    """
    parameters = list(model.parameters())
    totals = [torch.zeros(g.units, dtype=torch.float64) for g in groups]
    count = 0
    for inputs, labels in batches:
        loss = F.cross_entropy(model(inputs), labels)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        products = {
            p: p.detach().double() * (0 if g is None else g) for p, g in zip(parameters, gradients, strict=True)
        }
        for total, group in zip(totals, groups, strict=True):
            total += _summed(group, products.__getitem__, ("weight", "bias")).abs()
        count += 1
    return [total / count for total in totals]


@torch.no_grad()
def _activations(model: nn.Module, groups: Sequence[PruningGroup], batches: Batches) -> list[torch.Tensor]:
    """The mean absolute activation of each unit, summed over the layers that read it.

    (1 / |a|) sum_i |a_i| over images, positions and the unit's channels (Molchanov et al. 2017, section 2.2), where a
    is what a layer of the group is given: after batch norm and activation function, pooled before a classifier.
    """
    readers = list(dict.fromkeys(part.layer for g in groups for part in g.parts if part.reads))
    means = {layer: _Mean(layer) for layer in readers}
    hooks = [layer.register_forward_pre_hook(mean) for layer, mean in means.items()]
    try:
        for inputs, _ in batches:
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for group in groups:
        total = torch.zeros(group.units, dtype=torch.float64)
        for part in (p for p in group.parts if p.reads):
            share = group.units / len(part.channels)  # a unit is several features of a flattened map, or of a head
            total.index_add_(0, part.units, means[part.layer].value()[part.channels] * share)
        found.append(total)
    return found


class _Mean:
    """A hook that keeps the mean absolute value of each channel of a layer's input."""

    def __init__(self, layer: nn.Module) -> None:
        self.channels_last = isinstance(layer, nn.Linear)
        self.total: torch.Tensor | float = 0.0
        self.count = 0

    def __call__(self, layer: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        channels = arguments[0].movedim(-1 if self.channels_last else 1, 0).flatten(1)
        self.total = self.total + channels.double().abs().sum(1).cpu()
        self.count += channels.shape[1]

    def value(self) -> torch.Tensor:
        """`[channels]`"""
        return torch.as_tensor(self.total) / self.count
