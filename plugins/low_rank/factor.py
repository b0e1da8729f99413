"""Factors the layers of a model, and says what was done."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from .latency import Bench, by_latency
from .methods import QUICK_SWEEPS, SWEEPS, Ranks, ways
from .places import Place, alike, find_places
from .ranks import Choice, by_energy, by_ratio

if TYPE_CHECKING:
    from nas_edge import Context

    from . import LowRankConfig

LEAST_SHARE = 0.01  # of the network's time, for layers that are worth the estimates that ranks by latency take
LEAST_GAIN = 0.002  # of the network's time: less is lost in what a latency that is predicted errs by
NAMED = 4  # layers that the report names for each reason
GROW = "for their factors would be as large"
SLOW = "for their factors would be no faster on the target"
SLOW_TOGETHER = "for the network with their factors would be no faster on the target"


@dataclass
class _Plan:
    """What is to stand in which place, and which layers are left alone, by reason."""

    places: list[Place] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    left: dict[str, list[Place]] = field(default_factory=dict)

    def take(self, places: Sequence[Place], choices: Sequence[Choice]) -> None:
        self.places += places
        self.choices += choices

    def leave(self, reason: str, places: Sequence[Place]) -> None:
        self.left.setdefault(reason, []).extend(places)


@torch.no_grad()
def factor_layers(model: nn.Module, config: LowRankConfig, context: Context) -> tuple[nn.Module, str]:
    """A copy with its layers factored where that pays, and what was done in words.

    Each group of alike layers is timed in the model as it was given; in the end the whole must be faster too. The quick
    pass draws weights, and takes it that layers which shrink are faster.
    """
    model, data = copy.deepcopy(model), context.data
    places = find_places(model, (data.channels, data.resolution, data.resolution), config.method != "svd")
    timed = (config.check_latency and context.trained) or config.rank_by == "latency"
    bench = Bench(model, context.latency_ms) if places and timed and context.latency_ms else None
    plan = _Plan()
    for group in alike(places):
        if config.rank_by == "latency":
            _plan_in_time(plan, group, config, context, bench)
        else:
            _plan_by_quality(plan, group, config, context, bench)
    change_ms = _carry_out(plan, model, context.trained, bench)
    kinds = "linear and pointwise" if config.method == "svd" else "linear, pointwise and full convolution"
    report = f"factored {len(plan.places)} of {len(places)} {kinds} layers{_methods(plan.choices)}"
    if bench and change_ms:
        report += f", {bench.now_ms:.3g} to {bench.now_ms + change_ms:.3g} ms"
    if config.rank_by == "latency" and bench is None:
        report += "; the target cannot be asked here: multiply-adds stood for its time"
    return model, report + _left_alone(plan.left)


def _carry_out(plan: _Plan, model: nn.Module, trained: bool, bench: Bench | None) -> float:
    """Put the factors in place, and say by how much the network changes in ms: it does not where that is no gain."""
    modules = [c.module() if trained else c.sketch(seed) for seed, c in enumerate(plan.choices)]
    change_ms = bench.change_ms(plan.places, modules) if bench and modules else 0.0
    if bench and modules and change_ms >= 0:
        plan.leave(SLOW_TOGETHER, plan.places)
        plan.places, plan.choices = [], []
        return 0.0
    for place, module in zip(plan.places, modules, strict=True):
        place.put(model, module)
    return change_ms


def _plan_in_time(
    plan: _Plan, group: Sequence[Place], config: LowRankConfig, context: Context, bench: Bench | None
) -> None:
    methods = [ways(place.layer, config, _sweeps(context), context.seed) for place in group]
    own_ms = bench.own_ms(group) if bench else 0.0
    if bench and own_ms < LEAST_SHARE * bench.now_ms:
        plan.leave(f"for they take under {LEAST_SHARE:.0%} of the network's time", group)
        return
    choices = by_latency(group, methods, config.faster_by, bench, own_ms)
    if choices:
        plan.take(group, choices)
    else:
        plan.leave(f"for no rank makes them {config.faster_by:.0%} faster", group)


def _plan_by_quality(
    plan: _Plan, group: Sequence[Place], config: LowRankConfig, context: Context, bench: Bench | None
) -> None:
    """By energy or ratio; layers that are alike and come to the same ranks are timed together."""
    equal: dict[tuple[str, Ranks], list[tuple[Place, Choice]]] = {}
    for place in group:
        methods = ways(place.layer, config, _sweeps(context), context.seed)
        if config.rank_by == "ratio":
            choice = by_ratio(methods, place.sizes, config.ratio)
        else:
            choice = by_energy(methods, place.sizes, config.energy)
        if choice:
            equal.setdefault((choice.method.name, choice.ranks), []).append((place, choice))
        elif config.rank_by == "ratio":
            plan.leave(f"for no rank leaves at most {config.ratio:.0%} of their weights", [place])
        else:
            plan.leave(GROW, [place])
    for same in equal.values():
        places, choices = [place for place, _ in same], [choice for _, choice in same]
        sketches = [c.sketch(seed) for seed, c in enumerate(choices)]
        if bench and bench.change_ms(places, sketches) > -LEAST_GAIN * bench.now_ms:
            plan.leave(SLOW, places)
        else:
            plan.take(places, choices)


def _sweeps(context: Context) -> int:
    return SWEEPS if context.trained else QUICK_SWEEPS


def _methods(choices: Sequence[Choice]) -> str:
    """How many layers by which method, where singular values were not the only one."""
    counts = Counter(choice.method.name for choice in choices)
    if not counts.keys() - {"svd"}:
        return ""
    return f" ({', '.join(f'{count} by {name}' for name, count in sorted(counts.items()))})"


def _left_alone(left: dict[str, list[Place]]) -> str:
    report = ""
    for reason, places in left.items():
        names = [place.names[0] for place in places]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        report += f"; left alone, {reason}: {', '.join(names[:NAMED])}{more}"
    return report
