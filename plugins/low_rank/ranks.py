"""Choosing a method and its ranks for a layer by the share of its energy kept, or of its weights."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .layers import Pair, Part, chain, macs_of, weights_of
from .methods import Method, Ranks


@dataclass(frozen=True)
class Choice:
    """A method with its ranks."""

    method: Method
    ranks: Ranks

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.method.parts(self.ranks)

    def module(self) -> nn.Sequential:
        """What takes the layer's place."""
        return chain(self.method.layer, self.parts, self.method.weights(self.ranks))

    def sketch(self, seed: int) -> nn.Sequential:
        """The same with random weights: as fast, and quick to make."""
        draw = torch.Generator().manual_seed(seed)
        weights = [torch.randn(part.shape, generator=draw) / math.prod(part.shape[1:]) ** 0.5 for part in self.parts]
        return chain(self.method.layer, self.parts, weights)


def smaller(method: Method, sizes: Sequence[Pair]) -> list[Ranks]:
    """The ranks with fewer weights, and fewer multiply-adds on images of these sizes, than the layer has."""
    layer = method.whole

    def shrinks(ranks: Ranks) -> bool:
        parts = method.parts(ranks)
        fewer = not sizes or macs_of(parts, sizes) < macs_of([layer], sizes)
        return fewer and weights_of(parts) < layer.weights

    return [ranks for ranks in method.rungs() if shrinks(ranks)]


def by_energy(methods: Sequence[Method], sizes: Sequence[Pair], energy: float) -> Choice | None:
    """The fewest multiply-adds of all methods, each at its least rank that keeps this share of the squared norm.

    None where every one of them would be as large as the layer.
    """
    best, fewest = None, macs_of([methods[0].whole], sizes) if sizes else methods[0].whole.weights
    for method in methods:
        cheaper = [
            ranks
            for ranks in smaller(method, sizes)
            if _work(method, ranks, sizes) < fewest and method.kept_at_most(ranks) >= energy
        ]
        index = bisect.bisect_left(cheaper, True, key=lambda ranks, m=method: m.keeps(ranks, energy))  # type: ignore[misc]
        if index < len(cheaper):
            best, fewest = Choice(method, cheaper[index]), _work(method, cheaper[index], sizes)
    return best


def _work(method: Method, ranks: Ranks, sizes: Sequence[Pair]) -> int:
    """Multiply-adds, or weights where it is not known which images the layer gets."""
    parts = method.parts(ranks)
    return macs_of(parts, sizes) if sizes else weights_of(parts)


def by_ratio(methods: Sequence[Method], sizes: Sequence[Pair], ratio: float) -> Choice | None:
    """The method that keeps most, each at its largest rank with at most this share of the layer's weights."""
    choices = []
    for method in methods:
        allowed = [r for r in smaller(method, sizes) if weights_of(method.parts(r)) <= ratio * method.whole.weights]
        if allowed:
            choices.append(Choice(method, allowed[-1]))
    best = keeping_most([[choice] for choice in choices])
    return best[0] if best else None


def keeping_most(options: Sequence[Sequence[Choice]]) -> Sequence[Choice]:
    """Of several ways to factor the same layers that which keeps most of their energy, or nothing of none."""
    best: Sequence[Choice] = options[0] if options else ()
    most = -1.0
    for option in options if len(options) > 1 else ():
        if sum(choice.method.kept_at_most(choice.ranks) for choice in option) > most:
            kept = sum(choice.method.kept(choice.ranks) for choice in option)
            if kept > most:
                best, most = option, kept
    return best
