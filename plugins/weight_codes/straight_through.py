"""A weight in codes, `unit[channel] * level[index]`, trained by the straight-through estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Codes:
    """A weight `[out, ...]` in codes: `units * levels[index]`.

    `index` is int64 of the weight's shape, `levels` float32 `[number of levels]`, and `units` float32
    `[out, 1, ...]`, or `[1, 1, ...]` where the tensor has one for all.
    """

    index: Tensor
    levels: Tensor
    units: Tensor


class WeightCode(nn.Module):
    """A parametrization: takes the weight that is trained, `[out, ...]`, and gives the coded one.

    The value is `u * (l[i] + slope * (x - stop(x)))` with `x = w / u` and `stop` the identity without a gradient: the
    bracket is 0, and what flows through it is the straight-through estimator (Bengio, Leonard & Courville 2013),
    `dL/dw = slope * dL/dvalue`. Levels that are parameters get the sum of their weights' gradients.
    """

    def __init__(self, per_channel: bool) -> None:
        super().__init__()
        self.per_channel = per_channel

    def levels(self) -> Tensor:
        """`[number of levels]`."""
        raise NotImplementedError

    def units(self, weight: Tensor) -> Tensor:
        """What the levels are multiples of: `[out, 1, ...]` or `[1, 1, ...]`, above 0."""
        raise NotImplementedError

    def assign(self, scaled: Tensor) -> Tensor:
        """The level of each weight, from the weights over their units."""
        return nearest(scaled, self.levels().detach())

    def slope(self, scaled: Tensor, index: Tensor) -> Tensor | float:
        """The estimator's derivative of the coded weight by the trained one."""
        return 1.0

    def encode(self, weight: Tensor) -> Codes:
        """The codes of a weight, without gradients."""
        with torch.no_grad():
            units = self.units(weight)
            return Codes(self.assign(weight / units), self.levels(), units)

    def forward(self, weight: Tensor) -> Tensor:
        units = self.units(weight)
        scaled = weight / units
        fixed = scaled.detach()
        with torch.no_grad():
            index = self.assign(fixed)
        value: Tensor = units * (self.levels()[index] + self.slope(fixed, index) * (scaled - fixed))
        return value


def nearest(values: Tensor, ascending: Tensor) -> Tensor:
    """The index of the level nearest to each value, int64; of two equally near ones the lower."""
    return torch.bucketize(values.contiguous(), (ascending[1:] + ascending[:-1]) / 2)


def of_group(reduce: Callable[..., Tensor], values: Tensor, per_channel: bool) -> Tensor:
    """A reduction over each output channel or the whole tensor, `[out, 1, ...]` or `[1, 1, ...]`."""
    return reduce(values, dim=tuple(range(1 if per_channel else 0, values.ndim)), keepdim=True)


def above_zero(units: Tensor) -> Tensor:
    """1 where a unit is 0: of a channel that is 0 all over."""
    return torch.where(units > 0, units, torch.ones_like(units))


def mean_magnitude(weight: Tensor, counted: Tensor, per_channel: bool) -> Tensor:
    total = of_group(torch.sum, weight.abs() * counted, per_channel)
    count = of_group(torch.sum, counted.to(weight.dtype), per_channel)
    return above_zero(total / count.clamp(min=1))


def least_error(weight: Tensor, trials: list[Tensor], rounded: Callable[[Tensor], Tensor], per_channel: bool) -> Tensor:
    """Of several units for each group, those with the least squared error of rounding; the first of equals."""
    weight = weight.detach()
    best, least = trials[0], torch.full_like(trials[0], torch.inf)
    for units in trials:
        error = of_group(torch.sum, (units * rounded(weight / units) - weight).square(), per_channel)
        best = torch.where(error < least, units, best)
        least = torch.minimum(error, least)
    return best
