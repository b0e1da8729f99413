"""How much a weight matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from nas_edge import Split

POWERS = {"abs": 1, "square": 2, "cube": 3}
BATCH = 64


def magnitudes(weight: torch.Tensor, score: str) -> torch.Tensor:
    """|w|, w^2 or |w| w^2, float64, in the weight's shape."""
    return weight.detach().double().abs() ** POWERS[score]


def sensitivities(
    model: nn.Module, layers: Sequence[nn.Module], weights: Sequence[torch.Tensor], examples: Split
) -> list[torch.Tensor]:
    """|g w| of each layer, float64, in the weights' shapes (Lee et al. 2019, section 4.1).

    g is the gradient of the mean cross-entropy over the examples with respect to the weights that the layers compute
    with, in evaluation mode. A removed weight has one too: for c the mask, dL/dc = g w says what it would bring back.
    `weights` are those before masking.
    """
    device = weights[0].device
    gradients = [torch.zeros_like(w) for w in weights]
    with _differentiable(model):
        used = [layer.weight for layer in layers]
        for start in range(0, len(examples), BATCH):
            inputs = examples.images[start : start + BATCH].to(device).float() / 255
            labels = examples.labels[start : start + BATCH].to(device)
            loss = F.cross_entropy(model(inputs), labels, reduction="sum") / len(examples)
            for total, part in zip(
                gradients,
                torch.autograd.grad(loss, used, materialize_grads=True),  # type: ignore[arg-type]
                strict=True,
            ):
                total += part
    return [(g.double() * w.detach().double()).abs() for g, w in zip(gradients, weights, strict=True)]


def draw_examples(split: Split, count: int, seed: int) -> Split:
    """`count` images of a split, or all where there are fewer, drawn by seed."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count]
    return Split(split.images[order], split.labels[order])


@contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, gradients on, each weight computed once: afterwards modes and flags are as before."""
    modes = [(module, module.training) for module in model.modules()]
    frozen = [p for p in model.parameters() if not p.requires_grad]
    try:
        with torch.enable_grad(), parametrize.cached():
            model.eval()
            for parameter in frozen:
                parameter.requires_grad_(True)
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module, mode in modes:
            module.training = mode
