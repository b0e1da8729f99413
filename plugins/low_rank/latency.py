"""Ranks by the latency that they buy: layers are timed in the whole model, where they run as they will."""

from __future__ import annotations

import bisect
import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .layers import Layer, macs_of
from .methods import Method, Ranks
from .places import Place
from .ranks import Choice, keeping_most, smaller

TRIED_RANKS = 15  # of a layer, so that halving finds one in four estimates
Latency = Callable[[nn.Module], float]


class Twice(nn.Module):
    """A layer and another of its kind, added: what it takes longer than the layer alone is about what that takes."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.other = copy.deepcopy(layer)
        with torch.random.fork_rng(devices=[]):  # equal ones would be computed once
            self.other.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        both: Tensor = self.layer(x) + self.other(x)
        return both


class Bench:
    """The latency of a model on the target with other modules in the places of its layers, in ms."""

    def __init__(self, model: nn.Module, latency_ms: Latency) -> None:
        self._model = model
        self._latency_ms = latency_ms
        self.now_ms = latency_ms(model)

    def change_ms(self, places: Sequence[Place], modules: Sequence[nn.Module]) -> float:
        """What the model's latency would change by; the model is left as it was."""
        try:
            for place, module in zip(places, modules, strict=True):
                place.put(self._model, module)
            return self._latency_ms(self._model) - self.now_ms
        finally:
            for place in places:
                place.put(self._model, place.layer)

    def own_ms(self, places: Sequence[Place]) -> float:
        """About how long these layers take together."""
        return self.change_ms(places, [Twice(place.layer) for place in places])


def by_latency(
    places: Sequence[Place],
    ways: Sequence[Sequence[Method]],
    faster_by: float,
    bench: Bench | None = None,
    own_ms: float = 0.0,
) -> Sequence[Choice]:
    """One choice for each of the places, whose layers are alike; nothing where no rank is fast enough.

    `ways` are the methods of each place. Of each method the largest ranks are taken with which the layers run in at
    most `1 - faster_by` of their time, found by halving: more ranks are taken to take longer. Of several methods the
    one wins that keeps most. `own_ms` is what the layers take by the `bench`; without one multiply-adds stand for time.
    """
    options = []
    for methods in zip(*ways, strict=True):
        tried = smaller(methods[0], places[0].sizes)
        tried = _thinned(tried) if bench else tried

        def too_slow(ranks: Ranks, methods: Sequence[Method] = methods) -> bool:
            choices = [Choice(method, ranks) for method in methods]
            if bench:
                sketches = [choice.sketch(seed) for seed, choice in enumerate(choices)]
                return bench.change_ms(places, sketches) > -faster_by * own_ms
            return _macs_share(choices[0], places[0]) > 1 - faster_by

        fast = bisect.bisect_left(tried, True, key=too_slow)
        if fast:
            options.append([Choice(method, tried[fast - 1]) for method in methods])
    return keeping_most(options)


def _thinned(rungs: Sequence[Ranks]) -> list[Ranks]:
    """At most `TRIED_RANKS` of them, evenly spread, with both ends."""
    if len(rungs) <= TRIED_RANKS:
        return list(rungs)
    return [rungs[round(i * (len(rungs) - 1) / (TRIED_RANKS - 1))] for i in range(TRIED_RANKS)]


def _macs_share(choice: Choice, place: Place) -> float:
    sizes = place.sizes or [(1, 1)]
    return macs_of(choice.parts, sizes) / macs_of([choice.method.whole], sizes)
