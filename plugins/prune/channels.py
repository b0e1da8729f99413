"""Choosing the channels and heads to cut, and cutting them."""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from nas_edge import InvalidCandidate

from .groups import PruningGroup, channel_groups, kept_whole, trace
from .heads import head_groups

Importances = Callable[[nn.Module, Sequence[PruningGroup]], list[torch.Tensor]]
Chosen = list[tuple[PruningGroup, list[int]]]


@dataclass(frozen=True)
class Rule:
    """Which units to cut: `ratio` of the channels, the rest to the nearest multiple of `round_to`.

    With `by_layer` the ratio holds for every group, else for all of them together; there, importances are compared in
    units of their group's mean (after Fang et al. 2023, section 3.3) unless `same_scale` says that they can be compared
    as they are. `importances` gives those of the units of every group `[units]`.
    """

    ratio: float
    round_to: int
    by_layer: bool
    same_scale: bool
    importances: Importances


@dataclass(frozen=True)
class Cut:
    """A pruned copy, the groups that it was cut by (with their units before), and what is left of each by name."""

    model: nn.Module
    groups: Sequence[PruningGroup]
    left: Mapping[str, int]


def cut_copy(
    model: nn.Module, example: torch.Tensor, rule: Rule, share: float, original: Mapping[str, int] | None = None
) -> Cut:
    """A copy of a model of which `share` of what the rule cuts is cut, counted from its `original` units by name.

    `example` is one image `[1, channels, height, width]`. Raises `InvalidCandidate` where the model cannot be traced,
    nothing in it can be cut, or the pruned one does not run.
    """
    pruned = copy.deepcopy(model)
    with _ready_to_trace(pruned):
        with _explained("the network cannot be traced"):
            graph = trace(pruned, example)
            heads, layers = head_groups(pruned, kept_whole(pruned))
            groups = channel_groups(graph, leave_out=layers) + heads
            open_groups = [g for g in groups if not g.why_kept]
            if not open_groups:
                raise InvalidCandidate(
                    f"prune: no channels can be cut safely ({kept_in_words(groups)}); leave prune out for this network"
                )
        with _explained("the importance of its channels cannot be computed"):
            importances = rule.importances(pruned, open_groups)
        expected = _output_shape(pruned, example)
        chosen = choose(open_groups, importances, rule, share, original or {})
        with _explained("the pruned network does not run"), torch.no_grad():
            for group, units in chosen:  # heads last, for the graph does not know of them
                group.cut(units)
            found = _output_shape(pruned, example)
        if found != expected:
            raise InvalidCandidate(f"prune: outputs of shape {found} in place of {expected}; leave prune out")
    cut = {group.name: len(units) for group, units in chosen}
    return Cut(pruned, groups, {g.name: g.units - cut.get(g.name, 0) for g in groups})


def kept_channels(channels: int, cut: float, round_to: int) -> int:
    """What stays of a layer after cutting, to the nearest multiple of `round_to`, and at least that many."""
    multiples = max(1, math.floor((channels - cut) / round_to + 0.5))
    return min(channels, multiples * round_to)


def choose(
    groups: Sequence[PruningGroup],
    importances: Sequence[torch.Tensor],
    rule: Rule,
    share: float,
    original: Mapping[str, int],
) -> Chosen:
    """The least important units of each group that loses any."""
    ratio = rule.ratio * share
    if rule.by_layer:
        before = [original.get(g.name, g.units) for g in groups]
        kept = [kept_channels(n, ratio * n, _multiple(g, rule)) for n, g in zip(before, groups, strict=True)]
    else:
        least = _least_of_all(groups, importances, rule, ratio, original)
        kept = [kept_channels(g.units, n, _multiple(g, rule)) for n, g in zip(least, groups, strict=True)]
    chosen: Chosen = []
    for group, importance, units in zip(groups, importances, kept, strict=True):
        if units < group.units:
            least_first = torch.argsort(importance, stable=True)
            chosen.append((group, sorted(least_first[: group.units - units].tolist())))
    return chosen


def kept_in_words(groups: Sequence[PruningGroup]) -> str:
    """Why groups are kept whole, and how many where that is more than one."""
    reasons = Counter(g.why_kept for g in groups if g.why_kept)
    return ", ".join(reason if count == 1 else f"{count} {reason}" for reason, count in sorted(reasons.items()))


def _multiple(group: PruningGroup, rule: Rule) -> int:
    """The least number of units whose channels are a multiple of `round_to`."""
    return rule.round_to // math.gcd(rule.round_to, group.width)


def _least_of_all(
    groups: Sequence[PruningGroup],
    importances: Sequence[torch.Tensor],
    rule: Rule,
    ratio: float,
    original: Mapping[str, int],
) -> list[int]:
    """How many units of each group are among the least important ones, up to a ratio of the original channels."""
    before = sum(original.get(g.name, g.units) * g.width for g in groups)
    more = math.floor(ratio * before) - before + sum(g.channels for g in groups)
    scale = [
        g.width if rule.same_scale else i.mean().clamp_min(1e-30) for g, i in zip(groups, importances, strict=True)
    ]
    relative = torch.cat([i / s for i, s in zip(importances, scale, strict=True)])
    owner = torch.cat([torch.full((g.units,), number) for number, g in enumerate(groups)])
    width = torch.tensor([g.width for g in groups])
    order = torch.argsort(relative, stable=True)
    least = order[width[owner[order]].cumsum(0) <= more]
    return torch.bincount(owner[least], minlength=len(groups)).tolist()


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
