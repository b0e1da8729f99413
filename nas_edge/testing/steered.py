"""Walks to the corners of a search space, and finds where two of its networks differ."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from nas_edge.contracts import Scope, SearchSpace

LOUD = 8.0  # how far normalised activations are spread, so that relu6 has something to cut


@dataclass
class Steered:
    """A trial that gives each parameter its `pick`th value (of a range: low, middle, high), but for the fixed ones."""

    pick: int
    fixed: Mapping[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Sequence[Any]] = field(default_factory=dict)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        steps = (high - low) // step
        return int(self._choose(name, [low + step * s for s in (0, steps // 2, steps)]))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        middle = math.sqrt(low * high) if log else (low + high) / 2
        if step:
            middle = low + step * (int((high - low) / step + 1e-9) // 2)
        return float(self._choose(name, [low, middle, high]))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._choose(name, list(choices))

    def _choose(self, name: str, options: Sequence[Any]) -> Any:
        self.options[name] = options
        last = len(options) - 1
        chosen = options[last if self.pick < 0 else self.pick % len(options)]
        self.params[name] = self.fixed.get(name, chosen)
        return self.params[name]


class Corner(NamedTuple):
    """An architecture, and how its parameters were answered."""

    arch: dict[str, Any]
    trial: Steered


def walk(space: SearchSpace, pick: int, fixed: Mapping[str, Any] | None = None) -> Corner:
    trial = Steered(pick, fixed or {})
    return Corner(space.suggest(Scope(trial, space.name)), trial)


def corners(space: SearchSpace, most: int) -> list[Corner]:
    """All parameters at their lowest and highest, and all choices in turn: at most so many architectures."""
    first, last = walk(space, 0), walk(space, -1)
    count = max((len(o) for corner in (first, last) for o in corner.trial.options.values()), default=1)
    found = [first, last, *(walk(space, pick) for pick in range(1, count - 1))]
    return found[:most]


def build(space: SearchSpace, arch: Mapping[str, Any], *, channels: int, classes: int, side: int) -> nn.Module:
    """The network for images of a side, the same at each call; the architecture is given as a copy."""
    size = space.input_size(copy.deepcopy(dict(arch)), side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return space.build(copy.deepcopy(dict(arch)), in_channels=channels, num_classes=classes, resolution=size)


def differ(space: SearchSpace, one: Mapping[str, Any], other: Mapping[str, Any], **given: int) -> bool:
    """By the input size, the modules, the shapes of the weights, or else by what they compute with the same weights."""
    sizes = [space.input_size(dict(arch), given["side"]) for arch in (one, other)]
    if sizes[0] != sizes[1]:
        return True
    first, second = (build(space, arch, **given) for arch in (one, other))
    if repr(first) != repr(second) or _shapes(first) != _shapes(second):
        return True
    for module in first.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, LOUD)
    second.load_state_dict(first.state_dict())
    images = torch.rand(4, given["channels"], sizes[0], sizes[0], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return not torch.allclose(first.train()(images), second.train()(images), rtol=1e-3)


def _shapes(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
