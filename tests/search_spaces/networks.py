"""What the tests of the search spaces share: parameters, sampling and costs."""

from __future__ import annotations

import copy
from typing import Any

import optuna
import torch
from torch import Tensor, nn

from nas_edge import Scope
from nas_edge_spaces.mobilenet import MobileNetSpace, architecture
from nas_edge_spaces.mobilenet.attention import SelfAttention

SPACE = MobileNetSpace()
CLASSES = 5


def sample(count: int, seed: int) -> list[dict[str, Any]]:
    """Random architectures of the mobilenet space."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [SPACE.suggest(Scope(study.ask(), "mobilenet")) for _ in range(count)]


def stage(index: int, pick: int = 0, **changes: Any) -> dict[str, Any]:
    """A stage with the smallest (`pick` 0) or the largest (-1) value of each parameter, then changed."""
    values: dict[str, Any] = {
        "depth": architecture.DEPTHS.values()[pick],
        "width": architecture.STAGE_WIDTHS[index].values()[pick],
        "block": architecture.BLOCKS[pick],
        "kernel": architecture.KERNELS.values()[pick],
        "attention": architecture.ATTENTIONS[pick],
        "stride": architecture.STRIDES.values()[pick],
        "expansion": architecture.EXPANSIONS.values()[pick],
    } | changes
    if index == 0:
        del values["stride"]
    if values["block"] == "separable":
        del values["expansion"]
    return values


def params(pick: int = 0, *, activation: str | None = None, **changes: Any) -> dict[str, Any]:
    """All parameters at their smallest or largest value; `changes` are made in every stage."""
    count = architecture.STAGE_COUNTS.values()[pick]
    return {
        "input_scale": architecture.INPUT_SCALES.values()[pick],
        "width_multiplier": architecture.WIDTH_MULTIPLIERS.values()[pick],
        "activation": activation or architecture.ACTIVATIONS[pick],
        "stem": {
            "width": architecture.STEM_WIDTHS.values()[pick],
            "kernel": architecture.STEM_KERNELS.values()[pick],
        },
        "stages": [stage(index, pick, **changes) for index in range(count)],
    }


def build(of: dict[str, Any], channels: int, resolution: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return SPACE.build(copy.deepcopy(of), in_channels=channels, num_classes=CLASSES, resolution=resolution)


def images(batch: int, channels: int, resolution: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, resolution, resolution, generator=generator)


def mmacs(model: nn.Module, channels: int, resolution: int) -> float:
    """Millions of multiply-adds for one image, of convolutions, linear layers and attention products."""
    total = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif isinstance(module, SelfAttention):
            total += 2 * output.numel() * module.pooled_side**2

    handles = [module.register_forward_hook(count) for module in model.modules()]
    with torch.inference_mode():
        model.eval()(images(1, channels, resolution))
    for handle in handles:
        handle.remove()
    return total / 1e6
