"""Pruning at once, or a little at a time with training between the cuts; and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from nas_edge import Context, InvalidCandidate

from . import PruneConfig
from .channels import Rule, cut_copy, kept_in_words
from .groups import PruningGroup
from .importance import NEEDS_DATA, importances, training_batches
from .rounding import channel_multiple

WITHOUT_DATA = "l2"  # the criterion of the quick pass


def prune(model: nn.Module, config: PruneConfig, context: Context) -> nn.Module:
    """A pruned copy, and notes of what was cut.

    Raises `InvalidCandidate` where nothing can be cut, or the pruned network does not run.
    """
    side, device = context.data.resolution, _device(model)
    example = torch.full((1, context.data.channels, side, side), 0.5, device=device)
    multiple, from_target = channel_multiple(config.round_to, context.target)
    rule = _rule(config, context, multiple, device)
    steps = config.steps if config.schedule == "iterative" and context.trained else 1
    samples = max(1, round(config.train_share * context.samples / max(1, steps - 1)))

    first = cut = cut_copy(model, example, rule, 1 / steps)
    for step in range(2, steps + 1):
        trained = context.trainer.fit(cut.model, samples=samples)
        cut = cut_copy(trained, example, rule, step / steps, original={g.name: g.units for g in first.groups})
    if all(cut.left[g.name] == g.units for g in first.groups):
        raise InvalidCandidate(_nothing_cut(first.groups, config, multiple))
    _like(model, cut.model)
    context.note(_report(first.groups, cut.left))
    if steps > 1:
        context.note(f"in {steps} steps, with training on {samples} images after each but the last")
    if from_target:
        context.note(from_target)
    if config.criterion in NEEDS_DATA:
        images = f"{config.criterion} from {min(config.importance_images, len(context.data.train))} training images"
        context.note(images if context.trained else f"{WITHOUT_DATA} in place of {config.criterion}, before training")
    return cut.model


def _rule(config: PruneConfig, context: Context, multiple: int, device: torch.device) -> Rule:
    criterion = config.criterion if context.trained or config.criterion not in NEEDS_DATA else WITHOUT_DATA

    def judge(model: nn.Module, groups: Sequence[PruningGroup]) -> list[torch.Tensor]:
        batches = training_batches(context.data.train, config.importance_images, context.seed, device)
        return importances(model, groups, criterion, batches)

    return Rule(config.ratio, multiple, config.scope == "layer", criterion == "taylor", judge)


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _like(model: nn.Module, pruned: nn.Module) -> None:
    """Give each layer the mode, training or evaluation, that it had: a trainer may have changed it."""
    training = {name: m.training for name, m in model.named_modules()}
    for name, module in pruned.named_modules():
        module.training = training[name]


def _nothing_cut(groups: Sequence[PruningGroup], config: PruneConfig, multiple: int) -> str:
    widest = max(g.channels for g in groups if not g.why_kept)
    return (
        f"prune: ratio={config.ratio!r} with round_to={multiple} cuts nothing of layers of at most {widest} channels; "
        "raise ratio or lower round_to"
    )


def _report(groups: Sequence[PruningGroup], left: Mapping[str, int]) -> str:
    cut = [g for g in groups if left[g.name] < g.units]
    share = sum((g.units - left[g.name]) * g.width for g in cut) / sum(g.channels for g in groups)
    report = f"cut {share:.0%} of channels in {len(cut)} of {len(groups)} groups"
    if heads := [g for g in cut if g.is_attention]:
        report += f", {sum(g.units - left[g.name] for g in heads)} of {sum(g.units for g in heads)} attention heads"
    kept = kept_in_words(groups)
    return f"{report}; kept whole: {kept}" if kept else report
