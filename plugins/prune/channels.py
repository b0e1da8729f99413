"""Choosing the channels to cut, and cutting them."""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from nas_edge import InvalidCandidate

from .groups import ChannelGroup, cut_channels, find_groups, trace

if TYPE_CHECKING:
    from . import PruneConfig


def prune_channels(model: nn.Module, config: PruneConfig, shape: Sequence[int]) -> tuple[nn.Module, str]:
    """A pruned copy, and what was cut in words. `shape` is that of one image `[1, channels, height, width]`.

    Raises `InvalidCandidate` where nothing can be cut, or the pruned network does not run.
    """
    pruned = copy.deepcopy(model)
    weight = next(pruned.parameters(), torch.empty(0))
    example = torch.full(tuple(shape), 0.5, device=weight.device)
    with _ready_to_trace(pruned):
        with _explained("the network cannot be traced"):
            graph = trace(pruned, example)
            groups = find_groups(graph, norm=1 if config.criterion == "l1" else 2)
        expected = _output_shape(pruned, example)
        chosen = choose_channels([g for g in groups if not g.why_kept], config)
        if not chosen:
            raise InvalidCandidate(_nothing_to_cut(groups, config))
        with _explained("the pruned network does not run"), torch.no_grad():
            for group, channels in chosen:
                cut_channels(graph, group, channels)
            found = _output_shape(pruned, example)
        if found != expected:
            raise InvalidCandidate(f"prune: outputs of shape {found} in place of {expected}; leave prune out")
    _verify_fewer(model, pruned, config)
    return pruned, _report(groups, chosen)


def kept_channels(channels: int, cut: float, round_to: int) -> int:
    """What stays of a layer after cutting, to the nearest multiple of `round_to`, and at least that many."""
    multiples = max(1, math.floor((channels - cut) / round_to + 0.5))
    return min(channels, multiples * round_to)


def choose_channels(groups: Sequence[ChannelGroup], config: PruneConfig) -> list[tuple[ChannelGroup, list[int]]]:
    """The least important channels of each group that loses any.

    In the scope "global" importances are compared in units of their group's mean (after Fang et al. 2023, section 3.3).
    """
    wanted = [config.ratio * g.channels for g in groups]
    if config.scope == "global" and groups:
        relative = torch.cat([g.importance / g.importance.mean().clamp_min(1e-30) for g in groups])
        owner = torch.cat([torch.full((g.channels,), i) for i, g in enumerate(groups)])
        least = torch.argsort(relative, stable=True)[: math.floor(config.ratio * len(relative))]
        wanted = [float(n) for n in torch.bincount(owner[least], minlength=len(groups))]
    chosen = []
    for group, cut in zip(groups, wanted, strict=True):
        count = group.channels - kept_channels(group.channels, cut, config.round_to)
        if count:
            chosen.append((group, sorted(torch.argsort(group.importance, stable=True)[:count].tolist())))
    return chosen


@contextmanager
def _ready_to_trace(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, gradients on, no warnings; afterwards modes, flags and random state are as before."""
    training = {name: m.training for name, m in model.named_modules()}
    gradients = {name: p.requires_grad for name, p in model.named_parameters()}
    with torch.enable_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.eval().requires_grad_(True)
        yield
    for name, module in model.named_modules():
        module.training = training[name]
    for name, parameter in model.named_parameters():  # cutting makes new parameters under the old names
        parameter.requires_grad_(gradients[name])


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Whatever goes wrong inside is the candidate's fault: the graph was not made for every network."""
    try:
        yield
    except InvalidCandidate:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidCandidate(f"prune: {what}: {reason}; leave prune out for this network") from error


@torch.no_grad()
def _output_shape(model: nn.Module, example: torch.Tensor) -> tuple[int, ...]:
    return tuple(model(example).shape)


def _verify_fewer(model: nn.Module, pruned: nn.Module, config: PruneConfig) -> None:
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, pruned))
    if after >= before:
        raise InvalidCandidate(f"prune: ratio={config.ratio!r} left {after} of {before} parameters; raise it")


def _nothing_to_cut(groups: Sequence[ChannelGroup], config: PruneConfig) -> str:
    widest = max((g.channels for g in groups if not g.why_kept), default=0)
    if not widest:
        return f"prune: no channels can be cut safely ({_kept(groups)}); leave prune out for this network"
    return (
        f"prune: ratio={config.ratio!r} with round_to={config.round_to!r} cuts nothing of layers of at most "
        f"{widest} channels; raise ratio or lower round_to"
    )


def _report(groups: Sequence[ChannelGroup], chosen: Sequence[tuple[ChannelGroup, list[int]]]) -> str:
    cut, total = sum(len(c) for _, c in chosen), sum(g.channels for g in groups)
    report = f"cut {cut / total:.0%} of channels in {len(chosen)} of {len(groups)} groups"
    kept = _kept(groups)
    return f"{report}; kept {kept}" if kept else report


def _kept(groups: Sequence[ChannelGroup]) -> str:
    """How many groups were kept whole for each reason."""
    reasons = Counter(g.why_kept for g in groups if g.why_kept)
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
