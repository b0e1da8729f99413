"""Scores of networks that were not trained, from one batch: cheap guesses at how accurate their training makes them."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from nas_edge.contracts import Split

IMAGES = 64
NOTHING = -1e9  # stands for minus infinity, which JSON does not have
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.Mish)


def synflow(model: nn.Module, images: Tensor) -> float:
    """The logarithm of `sum |w * dR/dw|`, R the sum of the logits for an image of ones with all weights made positive.

    Tanaka et al. 2020, equation 4; summed over a network as Abdelfattah et al. 2021. `images` `[batch, channels,
    height, width]` give the shape alone.
    """
    model = copy.deepcopy(model).double().eval()
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter in parameters:
            parameter.abs_()
    with torch.enable_grad():
        flow = model(torch.ones_like(images[:1], dtype=torch.float64)).sum()
        slopes = torch.autograd.grad(flow, parameters, allow_unused=True)
    total = sum(float((p.detach() * s).abs().sum()) for p, s in zip(parameters, slopes, strict=True) if s is not None)
    return math.log(total) if 0 < total < math.inf else NOTHING


def naswot(model: nn.Module, images: Tensor) -> float:
    """`log det K`, where K counts for each two images the units whose sign before their activation is the same.

    Mellor et al. 2021, equation 2. `images` `[batch, channels, height, width]` in 0..1. A kernel without full rank, as
    that of a network without activations, gives `NOTHING`.
    """
    model, count = copy.deepcopy(model).train(), len(images)
    kernel = torch.zeros(count, count, dtype=torch.float64)

    def compare(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        on = (inputs[0].reshape(count, -1) > 0).float()
        kernel.add_(on @ on.T + (1 - on) @ (1 - on).T)

    for module in model.modules():
        if isinstance(module, ACTIVATIONS):
            module.register_forward_pre_hook(compare)
    with torch.no_grad():
        model(images)
    sign, value = torch.linalg.slogdet(kernel)
    return float(value) if sign > 0 and math.isfinite(value) else NOTHING


def scores(model: nn.Module, split: Split) -> dict[str, float]:
    """All of them for a network as it was initialised, on images spread over a split."""
    chosen = split.images[:: max(1, len(split) // IMAGES)][:IMAGES]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout
        images = chosen.float() / 255
        return {"synflow": synflow(model, images), "naswot": naswot(model, images)}
