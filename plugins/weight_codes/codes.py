"""The codes: which levels they have, how a weight is given one, and what is trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .straight_through import WeightCode, above_zero, least_error, mean_magnitude, nearest, of_group

TWN_THRESHOLD = 0.7  # of the mean magnitude: Li et al. 2016, section 2.2
TTQ_THRESHOLD = 0.05  # of the largest magnitude: Zhu et al. 2017, equation 9
UNIT_TRIALS = 46  # clipping points, from a tenth of the largest magnitude to all of it
EXPONENT_TRIALS = 4


class Uniform(WeightCode):
    """Evenly spaced, symmetric: levels -Q..Q with `Q = 2^(bits-1) - 1` (Krishnamoorthi 2018, section 2.2).

    The unit starts where the squared error is least and is learned: with `x = w / u`, `dvalue/du = round(x) - x`
    inside the range and the last level outside it, where no gradient reaches the weight (LSQ, Esser et al. 2020,
    equations 3 and 5). It is trained as the logarithm of its growth, so that a step of Adam is relative to its size.
    """

    def __init__(self, weight: Tensor, bits: int, per_channel: bool) -> None:
        super().__init__(per_channel)
        self.largest = (1 << (bits - 1)) - 1
        self.register_buffer("integers", torch.arange(-self.largest, self.largest + 1).to(weight))
        self.register_buffer("first_units", self._least_error_units(weight))
        self.growth = nn.Parameter(self.first_units.new_zeros(self.first_units.numel()))

    integers: Tensor
    first_units: Tensor

    def _least_error_units(self, weight: Tensor) -> Tensor:
        largest = of_group(torch.amax, weight.detach().abs(), self.per_channel)
        shares = torch.linspace(0.1, 1.0, UNIT_TRIALS).tolist()
        trials = [above_zero(largest * share / self.largest) for share in reversed(shares)]
        return least_error(weight, trials, self._rounded, self.per_channel)

    def _rounded(self, scaled: Tensor) -> Tensor:
        return scaled.round().clamp(-self.largest, self.largest)

    def levels(self) -> Tensor:
        return self.integers

    def units(self, weight: Tensor) -> Tensor:
        return self.first_units * self.growth.exp().view(self.first_units.shape)

    def assign(self, scaled: Tensor) -> Tensor:
        return (self._rounded(scaled) + self.largest).long()

    def slope(self, scaled: Tensor, index: Tensor) -> Tensor:
        return (scaled.abs() <= self.largest).to(scaled.dtype)


class Codebook(WeightCode):
    """`2^bits` centroids a tensor, found by k-means and trained (Han et al. 2016, sections 3.1 to 3.3).

    A centroid's gradient is the sum of its weights' gradients: `dL/dC_k = sum_ij dL/dW_ij 1(I_ij = k)`. With `fixed`
    assignments that is all, as in the paper; otherwise the weights train along by the estimator and take the centroid
    that is nearest to them. With `keeps_zeros` one centroid is 0 for good, and weights that are 0 have it.
    Units are root mean squares of the weights at the start.
    """

    unit: Tensor
    first_index: Tensor | None

    def __init__(
        self, weight: Tensor, centroids: Callable[[Tensor], Tensor], per_channel: bool, keeps_zeros: bool, fixed: bool
    ) -> None:
        """`centroids` finds the trained ones among numbers `[n]`: `2^bits` less one where zeros are kept."""
        super().__init__(per_channel)
        self.keeps_zeros = keeps_zeros
        start = weight.detach()
        count = of_group(torch.sum, (start != 0).to(start.dtype), per_channel).clamp(min=1)
        unit = (of_group(torch.sum, start.square(), per_channel) / count).sqrt()
        self.register_buffer("unit", above_zero(unit))
        scaled = start / self.unit
        found = centroids(scaled[scaled != 0] if keeps_zeros else scaled.flatten())
        self.centroids = nn.Parameter(found.to(start))
        self.register_buffer("first_index", self._nearest(scaled) if fixed else None)

    def levels(self) -> Tensor:
        return torch.cat([self.centroids.new_zeros(1), self.centroids]) if self.keeps_zeros else self.centroids

    def units(self, weight: Tensor) -> Tensor:
        return self.unit

    def _nearest(self, scaled: Tensor) -> Tensor:
        ascending, order = self.levels().detach().sort()
        return order[nearest(scaled, ascending)]

    def assign(self, scaled: Tensor) -> Tensor:
        index = self._nearest(scaled) if self.first_index is None else self.first_index
        return torch.where(scaled == 0, 0, index) if self.keeps_zeros else index

    def slope(self, scaled: Tensor, index: Tensor) -> float:
        return 1.0 if self.first_index is None else 0.0


class Logarithmic(WeightCode):
    """Zero and powers of two: `sign * 2^k` with `2^(bits-1) - 1` exponents (Miyashita et al. 2016; INQ, Zhou et al.
    2017, equations 1 to 4), each weight at the nearest.

    The largest exponent is fixed at the start, where the squared error is least: at most that of the power nearest to
    the largest weight.
    """

    powers: Tensor
    unit: Tensor

    def __init__(self, weight: Tensor, bits: int, per_channel: bool) -> None:
        super().__init__(per_channel)
        exponents = (1 << (bits - 1)) - 1
        positive = 2.0 ** torch.arange(1 - exponents, 1).to(weight)
        self.register_buffer("powers", torch.cat([-positive.flip(0), positive.new_zeros(1), positive]))
        largest = above_zero(of_group(torch.amax, weight.detach().abs(), per_channel))
        top = torch.exp2((largest * (4 / 3)).log2().floor())  # Zhou et al., equation 2
        trials = [top / 2**lower for lower in range(EXPONENT_TRIALS)]
        self.register_buffer("unit", least_error(weight, trials, self._rounded, per_channel))

    def _rounded(self, scaled: Tensor) -> Tensor:
        return self.powers[nearest(scaled, self.powers)]

    def levels(self) -> Tensor:
        return self.powers

    def units(self, weight: Tensor) -> Tensor:
        return self.unit


class Ternary(WeightCode):
    """-1, 0 and 1 times a unit (TWN, Li et al. 2016, section 2.2).

    Weights up to `0.7 * mean |w|` are 0, and the unit is the mean magnitude of the others: both follow the weights.
    """

    signs: Tensor

    def __init__(self, weight: Tensor, per_channel: bool) -> None:
        super().__init__(per_channel)
        self.register_buffer("signs", weight.new_tensor([-1.0, 0.0, 1.0]))

    def _beyond(self, weight: Tensor) -> Tensor:
        threshold = TWN_THRESHOLD * of_group(torch.mean, weight.abs(), self.per_channel)
        return weight.abs() > threshold

    def levels(self) -> Tensor:
        return self.signs

    def units(self, weight: Tensor) -> Tensor:
        weight = weight.detach()
        return mean_magnitude(weight, self._beyond(weight), self.per_channel)

    def assign(self, scaled: Tensor) -> Tensor:
        return (scaled.sign() * self._beyond(scaled)).long() + 1


class TrainedTernary(WeightCode):
    """-n, 0 and p, with n and p trained for each tensor (TTQ, Zhu et al. 2017, equations 6 to 9).

    Weights up to 0.05 times the largest magnitude are 0. `dL/dp` is the sum over the weights at p, `dL/dn` minus that
    over those at -n, and `dL/dw` is scaled by p, 1 or n. The unit is the largest magnitude at the start.
    """

    unit: Tensor

    def __init__(self, weight: Tensor, per_channel: bool) -> None:
        super().__init__(per_channel)
        start = weight.detach()
        self.register_buffer("unit", above_zero(of_group(torch.amax, start.abs(), per_channel)))
        scaled = start / self.unit
        index = self.assign(scaled)
        sides = [scaled[index == 0].abs(), scaled[index == 2]]
        means = torch.stack([side.mean() if len(side) else scaled.new_ones(()) for side in sides])
        self.magnitudes = nn.Parameter(means)

    def levels(self) -> Tensor:
        negative, positive = self.magnitudes.split(1)
        return torch.cat([-negative, negative.new_zeros(1), positive])

    def units(self, weight: Tensor) -> Tensor:
        return self.unit

    def assign(self, scaled: Tensor) -> Tensor:
        threshold = TTQ_THRESHOLD * of_group(torch.amax, scaled.abs(), self.per_channel)
        return (scaled.sign() * (scaled.abs() > threshold)).long() + 1

    def slope(self, scaled: Tensor, index: Tensor) -> Tensor:
        negative, positive = self.magnitudes.detach().split(1)
        return torch.cat([negative, torch.ones_like(positive), positive])[index]


class Binary(WeightCode):
    """The sign times the mean magnitude (Rastegari et al. 2016, equation 6, of XNOR-Net's weights).

    Trained by the identity, as BinaryConnect is (Courbariaux et al. 2015). With `keeps_zeros` weights that are 0 stay
    so, in a third level, and the mean is of the others.
    """

    signs: Tensor

    def __init__(self, weight: Tensor, per_channel: bool, keeps_zeros: bool) -> None:
        super().__init__(per_channel)
        self.keeps_zeros = keeps_zeros
        signs = [-1.0, 0.0, 1.0] if keeps_zeros else [-1.0, 1.0]
        self.register_buffer("signs", weight.new_tensor(signs))

    def levels(self) -> Tensor:
        return self.signs

    def units(self, weight: Tensor) -> Tensor:
        weight = weight.detach()
        counted = weight != 0 if self.keeps_zeros else torch.ones_like(weight, dtype=torch.bool)
        return mean_magnitude(weight, counted, self.per_channel)

    def assign(self, scaled: Tensor) -> Tensor:
        return scaled.sign().long() + 1 if self.keeps_zeros else (scaled >= 0).long()
