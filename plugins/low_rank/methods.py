"""The ways to factor one layer: what each keeps of the weight, its parts and their weights, at each of its ranks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .layers import Layer, Part, is_matrix, weights_of, whole
from .tensors import Cp, Tucker2, cp, kept_by_rank, svd_factors, tucker2

if TYPE_CHECKING:
    from . import LowRankConfig

Ranks = tuple[int, ...]
SWEEPS, QUICK_SWEEPS = 60, 2
AUTO_CP_WORK = 2e7  # weights times rank: seconds; beyond, where CP takes minutes, it has to be asked for by name


class Method(ABC):
    """One way to factor a layer. Its weight `[out, in, height, width]` is `kernel`, float64 on the CPU.

    `multiple` is what ranks are multiples of; `sweeps` bounds the iterations of those that iterate.
    """

    name: str

    def __init__(self, layer: Layer, multiple: int, sweeps: int = SWEEPS) -> None:
        self.layer = layer
        self.multiple = multiple
        self.sweeps = sweeps
        self.whole = whole(layer)
        self.kernel = layer.weight.detach().to("cpu", torch.float64).reshape(self.whole.shape)

    @abstractmethod
    def rungs(self) -> list[Ranks]:
        """The ranks to choose from, from the fewest weights to the most; those from the layer's own size may lack."""

    @abstractmethod
    def kept(self, ranks: Ranks) -> float:
        """The share of the weight's squared norm that is kept: 1 - |W - approximation|^2 / |W|^2."""

    def keeps(self, ranks: Ranks, energy: float) -> bool:
        """Whether at least this share is kept."""
        return self.kept(ranks) >= energy

    def kept_at_most(self, ranks: Ranks) -> float:
        """A bound of `kept` that is found quickly."""
        return self.kept(ranks)

    @abstractmethod
    def parts(self, ranks: Ranks) -> tuple[Part, ...]:
        """What the layer becomes."""

    @abstractmethod
    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        """The weights of the parts, each with as many elements as its part's."""


def multiples(multiple: int, most: int) -> list[int]:
    """The multiples below `most`, and `most`."""
    return [*range(multiple, most, multiple), most]


def share(kept: Tensor, total: Tensor) -> float:
    """A share of a squared norm; of none at all, everything is kept."""
    return float(kept / total) if total > 0 else 1.0


class Matrix(Method):
    """Truncated singular values (Denton et al. 2014): `[out, in]` becomes `[rank, in]`, then `[out, rank]`.

    The best approximation of its rank: the squared error is the sum of the discarded squared singular values (Eckart
    and Young 1936).
    """

    name = "svd"

    @cached_property
    def _kept(self) -> Tensor:
        return kept_by_rank(self.kernel.flatten(1))

    def rungs(self) -> list[Ranks]:
        return [(rank,) for rank in multiples(self.multiple, min(self.whole.inputs, self.whole.outputs))]

    def kept(self, ranks: Ranks) -> float:
        return share(self._kept[ranks[0] - 1], self._kept[-1])

    def parts(self, ranks: Ranks) -> tuple[Part, ...]:
        layer = self.whole  # the first part leaves out pixels, and pads before the bias
        first = Part(layer.inputs, ranks[0], stride=layer.stride, padding=layer.padding)
        return first, Part(ranks[0], layer.outputs)

    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        return svd_factors(self.kernel.flatten(1), ranks[0])


class Spatial(Method):
    """A k x 1 convolution, then a 1 x k one, or the other way round (Jaderberg et al. 2014, section 2.2, scheme 2).

    Vertical first: `W[o, i, y, x] = sum over r of H[o, r, x] V[r, i, y]`, a matrix `[out * width, in * height]` of that
    rank, so the best one is that of its singular values. Horizontal first: the same of `[out * height, in * width]`.
    Each rank takes the order that keeps more.
    """

    name = "spatial"

    @cached_property
    def _matrices(self) -> tuple[Tensor, Tensor]:
        outputs, inputs, height, width = self.kernel.shape
        vertical_first = self.kernel.permute(0, 3, 1, 2).reshape(outputs * width, inputs * height)
        horizontal_first = self.kernel.permute(0, 2, 1, 3).reshape(outputs * height, inputs * width)
        return vertical_first, horizontal_first

    @cached_property
    def _kept(self) -> tuple[Tensor, Tensor]:
        vertical_first, horizontal_first = self._matrices
        return kept_by_rank(vertical_first), kept_by_rank(horizontal_first)

    def _order(self, rank: int) -> int:
        """0 for vertical first, 1 for horizontal first."""
        return int(self._kept[1][rank - 1] > self._kept[0][rank - 1])

    def rungs(self) -> list[Ranks]:
        outputs, inputs, height, width = self.whole.shape
        full = min(outputs * width, inputs * height, outputs * height, inputs * width)
        return [(rank,) for rank in multiples(self.multiple, full)]

    def kept(self, ranks: Ranks) -> float:
        kept = self._kept[self._order(ranks[0])]
        return share(kept[ranks[0] - 1], kept[-1])

    def parts(self, ranks: Ranks) -> tuple[Part, ...]:
        (rank,) = ranks
        axis = self._order(rank)
        return along(self.whole, self.whole.inputs, rank, axis), along(self.whole, rank, self.whole.outputs, 1 - axis)

    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        (rank,) = ranks
        outputs, inputs = self.whole.outputs, self.whole.inputs
        narrow, wide = svd_factors(
            self._matrices[self._order(rank)], rank
        )  # [rank, in * first side], [out * second side, rank]
        return narrow.reshape(rank, inputs, -1), wide.reshape(outputs, -1, rank).transpose(1, 2)


def along(layer: Part, inputs: int, outputs: int, axis: int, groups: int = 1) -> Part:
    """A part with a layer's kernel, stride, padding and dilation along one axis: 0 is vertical, 1 horizontal."""

    def only(pair: tuple[int, int], other: int) -> tuple[int, int]:
        return (pair[0], other) if axis == 0 else (other, pair[1])

    return Part(
        inputs,
        outputs,
        only(layer.kernel, 1),
        only(layer.stride, 1),
        only(layer.padding, 0),
        only(layer.dilation, 1),
        groups,
    )


class TwoModes(Method):
    """Tucker-2 (Kim et al. 2016, equation 3): 1 x 1 to fewer channels, the k x k core, 1 x 1 to the outputs.

    `W[o, i, y, x] = sum over r, s of P[o, r] C[r, s, y, x] Q[i, s]`, by higher-order orthogonal iteration. Ranks are
    (outputs, inputs). Of all pairs those are rungs that keep more than any with as few weights; what a pair keeps is
    that of the truncated higher-order singular values, from which the iteration only gains. A rank that is full needs
    no 1 x 1 convolution: its basis is multiplied into the core.
    """

    name = "tucker2"

    @cached_property
    def _start(self) -> Tucker2:
        return Tucker2.of(self.kernel)

    @cached_property
    def _kept(self) -> Tensor:
        return self._start.kept()

    def rungs(self) -> list[Ranks]:
        pairs = [
            (outputs, inputs)
            for outputs in multiples(self.multiple, self.whole.outputs)
            for inputs in multiples(self.multiple, self.whole.inputs)
        ]
        most, rungs = -math.inf, []
        kept = self._kept.tolist()
        for outputs, inputs in sorted(pairs, key=self._weights_of):
            if kept[outputs - 1][inputs - 1] > most:
                most = kept[outputs - 1][inputs - 1]
                rungs.append((outputs, inputs))
        return rungs  # type: ignore[return-value]

    def _weights_of(self, ranks: tuple[int, int]) -> int:
        return weights_of(self.parts(ranks))

    def kept(self, ranks: Ranks) -> float:
        return share(self._kept[ranks[0] - 1, ranks[1] - 1], self._kept[-1, -1])

    def parts(self, ranks: Ranks) -> tuple[Part, ...]:
        layer, (outputs, inputs) = self.whole, ranks
        core = Part(inputs, outputs, layer.kernel, layer.stride, layer.padding, layer.dilation)
        before = (Part(layer.inputs, inputs),) if inputs < layer.inputs else ()
        after = (Part(outputs, layer.outputs),) if outputs < layer.outputs else ()
        return (*before, core, *after)

    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        core, left, right = tucker2(self.kernel, ranks[0], ranks[1], self.sweeps, self._start)
        parts = []
        if ranks[1] == self.whole.inputs:
            core = torch.einsum("rs...,is->ri...", core, right)
        else:
            parts.append(right.T)
        if ranks[0] == self.whole.outputs:
            return (*parts, torch.einsum("rs...,or->os...", core, left))
        return (*parts, core, left)


class Components(Method):
    """CP (Lebedev et al. 2015, section 3.2): 1 x 1, one filter for each channel, 1 x 1.

    `W[o, i, y, x] = sum over r of A[o, r] B[i, r] V[y, r] H[x, r]`: depthwise k x 1, then depthwise 1 x k. With `joint`
    a single depthwise k x k in their place, `K[y, x, r]`: no less is kept at a rank, with a kernel less to run.
    """

    name = "cp"

    def __init__(
        self, layer: Layer, multiple: int, joint: bool, sweeps: int, seed: int, work: float = math.inf
    ) -> None:
        """`work` bounds the product of weights and rank, which the time of each sweep grows with."""
        super().__init__(layer, multiple, sweeps)
        self._most = work / self.whole.weights
        self._joint = joint or 1 in self.whole.kernel
        self._seed = seed
        self._tensor = self.kernel.flatten(2) if self._joint else self.kernel
        self._norm = float(self.kernel.pow(2).sum())
        self._asked: dict[int, Cp] = {}
        self._found: dict[int, Cp] = {}

    def _start(self, rank: int) -> Cp:
        return self._asked.get(rank) or Cp.start(self._tensor, rank, self._seed)

    def _components(self, rank: int) -> Cp:
        if rank not in self._found:
            self._found[rank] = cp(self._tensor, self._start(rank), self.sweeps)
        return self._found[rank]

    @cached_property
    def _bounds(self) -> list[Tensor]:
        """What the best matrix of each rank keeps of the unfolding of each mode of channels."""
        return [kept_by_rank(self.kernel.flatten(1)), kept_by_rank(self.kernel.transpose(0, 1).flatten(1))]

    def rungs(self) -> list[Ranks]:
        most = min(self._most, self.whole.weights / weights_of(self.parts((1,))))
        return [(rank,) for rank in range(self.multiple, math.floor(most) + 1, self.multiple)]

    def kept(self, ranks: Ranks) -> float:
        return 1 - self._components(ranks[0]).error / self._norm if self._norm else 1.0

    def keeps(self, ranks: Ranks, energy: float) -> bool:
        (rank,) = ranks
        enough = (1 - energy) * self._norm
        self._asked[rank] = cp(self._tensor, self._start(rank), self.sweeps, enough)
        return self._asked[rank].error <= enough or not self._norm

    def kept_at_most(self, ranks: Ranks) -> float:
        return min(share(kept[min(ranks[0], len(kept)) - 1], kept[-1]) for kept in self._bounds) + 1e-9

    def parts(self, ranks: Ranks) -> tuple[Part, ...]:
        layer, (rank,) = self.whole, ranks
        if self._joint:
            middle = [Part(rank, rank, layer.kernel, layer.stride, layer.padding, layer.dilation, rank)]
        else:
            middle = [along(layer, rank, rank, axis, rank) for axis in (0, 1)]
        return (Part(layer.inputs, rank), *middle, Part(rank, layer.outputs))

    def weights(self, ranks: Ranks) -> tuple[Tensor, ...]:
        outputs, inputs, *taps = self._components(ranks[0]).factors
        return (inputs.T, *(line.T for line in taps), outputs)


def ways(layer: Layer, config: LowRankConfig, sweeps: int, seed: int) -> list[Method]:
    """The ways to factor a layer that a config allows: a matrix has one."""
    multiple = config.rank_multiple
    if is_matrix(layer):
        return [Matrix(layer, multiple)]
    wanted = ("spatial", "tucker2", "cp") if config.method == "auto" else (config.method,)
    made: list[Method] = []
    if "spatial" in wanted:
        made.append(Spatial(layer, multiple))
    if "tucker2" in wanted:
        made.append(TwoModes(layer, multiple, sweeps))
    if "cp" in wanted:
        work = AUTO_CP_WORK if config.method == "auto" else math.inf
        made.append(Components(layer, multiple, config.cp_kernel == "joint", sweeps, seed, work))
    return made
