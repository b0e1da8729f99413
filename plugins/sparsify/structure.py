"""Puts the masks on a network and takes them off."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from nas_edge import Context, InvalidCandidate, Split

from ..checks import refuse
from ..parametrized import attach, bake
from .masks import Mask, choose, masks_of, update_masks
from .report import masked_report, planned_report, zeros_report
from .scores import draw_examples, magnitudes

if TYPE_CHECKING:
    from . import SparsifyConfig

Layers = Mapping[str, nn.Conv2d | nn.Linear]


def with_masks(model: nn.Module, config: SparsifyConfig, context: Context) -> tuple[nn.Module, str]:
    """A copy with masks, and what they remove in words.

    Raises `InvalidCandidate` where no layer can lose weights, or a threshold would remove all of them.
    """
    model = copy.deepcopy(model)
    layers, left_dense = layers_to_mask(model, config, len(context.data.classes))
    if not layers:
        raise InvalidCandidate("sparsify: the network holds no layer that may lose weights; leave sparsify out")
    if context.trained and config.mode == "threshold":
        _refuse_to_remove_all(layers, config)
    for layer in layers.values():
        attach(layer, Mask(torch.zeros_like(layer.weight, dtype=torch.bool)))
    if config.schedule == "gradual" and context.trained:
        return model, planned_report(masks_of(model), config, left_dense)
    rescued = update_masks(model, config, config.amount, examples_for(config, context))
    return model, masked_report(masks_of(model), config, left_dense, rescued)


def without_masks(model: nn.Module, *, compress: bool) -> tuple[nn.Module, str]:
    """A copy whose weights are the masked ones, for good, and how many are zero in words."""
    model = copy.deepcopy(model)
    report = zeros_report(masks_of(model), compress=compress)
    bake(model, Mask)
    return model, report


def layers_to_mask(model: nn.Module, config: SparsifyConfig, classes: int) -> tuple[Layers, list[str]]:
    """The layers that lose weights, by name, and in words which do not."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    left_dense = []
    if not config.depthwise:
        depthwise = [n for n, m in layers.items() if isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels]
        for name in depthwise:
            del layers[name]
        if depthwise:
            left_dense.append(f"{len(depthwise)} depthwise convolutions")
    if not config.classifier:
        with_outputs = [name for name, layer in layers.items() if len(layer.weight) == classes]
        for name in with_outputs[-1:]:
            del layers[name]
            left_dense.append(f"the classifier {name}")
    return layers, left_dense


def examples_for(config: SparsifyConfig, context: Context) -> Split | None:
    """The training images that sensitivities are seen on; None where the mode or the quick pass needs none."""
    if config.mode != "sensitivity" or not context.trained:
        return None
    return draw_examples(context.data.train, config.sensitivity_images, context.seed)


def _refuse_to_remove_all(layers: Layers, config: SparsifyConfig) -> None:
    scores = [magnitudes(layer.weight, config.score) for layer in layers.values()]
    if all(bool(removed.all()) for removed in choose(scores, config, config.threshold)):
        raise refuse(
            "sparsify",
            "threshold",
            config.threshold,
            "at most some weight's score",
            f"it would remove every weight, and the largest score {config.score!r} of all is "
            f"{max(float(s.max()) for s in scores):.3g}; lower it",
        )
