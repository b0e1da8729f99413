"""Decompositions of weights: truncated singular values, Tucker-2 and CP. All tensors are float64 on the CPU."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

HOOI_TOLERANCE = 1e-6  # of the squared norm: a sweep that gains less is the last
CP_TOLERANCE = 1e-4  # of the error
PATIENCE = 10  # sweeps at the present pace
PROXIMAL = 1e-9  # of the mean diagonal of the normal equations
TINY = 1e-100


def kept_by_rank(matrix: Tensor) -> Tensor:
    """The squared norm that the best approximation of rank 1, 2, ... keeps: sums of squared singular values.

    Eckart and Young (1936). `[n]`, n the smaller side; the squares are the eigenvalues of the matrix times itself.
    """
    narrow = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    squares: Tensor = torch.linalg.eigvalsh(narrow @ narrow.T)
    return torch.cumsum(squares.flip(0).clamp_min(0), dim=0)


def svd_factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """`[rank, columns]` and `[rows, rank]`, whose product is the best approximation of that rank.

    The square root of the singular values goes to each, so that both train at the same pace.
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    return root[:, None] * right[:rank], left[:, :rank] * root


@dataclass(frozen=True)
class Tucker2:
    """A kernel `[out, in, *taps]` in orthonormal bases of its channels: `outputs` `[out, out]`, `inputs` `[in, in]`.

    The higher-order singular value decomposition of De Lathauwer et al. (2000a) on the two modes of channels, the
    first basis vectors being the strongest; `core` `[out, in, *taps]` is the kernel in these bases.
    """

    outputs: Tensor
    inputs: Tensor
    core: Tensor

    @classmethod
    def of(cls, kernel: Tensor) -> Tucker2:
        outputs, inputs = _basis(kernel, 0), _basis(kernel, 1)
        return cls(outputs, inputs, _project(kernel, outputs, inputs))

    def kept(self) -> Tensor:
        """The squared norm of the kernel's projection on the first `r` and `s` basis vectors, at `[r - 1, s - 1]`."""
        return torch.cumsum(torch.cumsum(self.core.flatten(2).pow(2).sum(2), dim=0), dim=1)


def tucker2(
    kernel: Tensor, outputs: int, inputs: int, sweeps: int, start: Tucker2 | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The core `[outputs, inputs, *taps]` and orthonormal `[out, outputs]` and `[in, inputs]` near a kernel.

    Higher-order orthogonal iteration (De Lathauwer et al. 2000b; Kolda and Bader 2009, figure 4.4) from the truncated
    higher-order singular values: each basis in turn is the best one for the other, at most `sweeps` times.
    """
    start = start or Tucker2.of(kernel)
    left, right = start.outputs[:, :outputs], start.inputs[:, :inputs]
    total, before = float(kernel.pow(2).sum()), -1.0
    for _ in range(sweeps):
        left = _basis(torch.einsum("oi...,ij->oj...", kernel, right), 0)[:, :outputs]
        right = _basis(torch.einsum("oi...,oj->ji...", kernel, left), 1)[:, :inputs]
        kept = float(_project(kernel, left, right).pow(2).sum())
        if kept - before <= HOOI_TOLERANCE * total:
            break
        before = kept
    return _project(kernel, left, right), left, right


def _project(kernel: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    return torch.einsum("oi...,or,is->rs...", kernel, outputs, inputs)


def _basis(tensor: Tensor, mode: int) -> Tensor:
    """The left singular vectors of a mode's unfolding `[size, size]`, the strongest first."""
    unfolded = tensor.movedim(mode, 0).flatten(1)
    vectors: Tensor = torch.linalg.eigh(unfolded @ unfolded.T).eigenvectors
    return vectors.flip(1)


@dataclass(frozen=True)
class Cp:
    """Components near a tensor: a matrix `[size, rank]` a mode, and the squared norm of what they leave."""

    factors: tuple[Tensor, ...]
    error: float

    @classmethod
    def start(cls, tensor: Tensor, rank: int, seed: int) -> Cp:
        """The singular vectors of each mode, the strongest first, then seeded random ones; nothing is fitted yet."""
        draw = torch.Generator().manual_seed(seed)
        factors = []
        for mode, size in enumerate(tensor.shape):
            surplus = torch.randn(size, max(rank - size, 0), generator=draw, dtype=tensor.dtype)
            factors.append(torch.cat([_basis(tensor, mode)[:, :rank], surplus], dim=1))
        return cls(tuple(factors), float("inf"))


def cp(tensor: Tensor, start: Cp, sweeps: int, enough: float | None = None) -> Cp:
    """Better components, after at most `sweeps` over all modes.

    Alternating least squares (Carroll and Chang 1970, Harshman 1970; as in Kolda and Bader 2009, figure 3.3): the
    columns of all modes but the one that is solved for have norm 1. Each solution is held near the one before by a
    small weight, which leaves the fixed points where they are and keeps the equations solvable (Li et al. 2013). In
    the end every mode gets an equal share of a component's norm.

    With `enough` it only asks whether the error comes down to that, and stops where the answer shows.
    """
    factors, scale = _normalised(start.factors)
    total, before, error = float(tensor.pow(2).sum()), start.error, start.error
    for _ in range(sweeps):
        for mode, old in enumerate(factors):
            gram = _gram(factors, leave=mode)
            near = PROXIMAL * float(gram.diagonal().mean()) + TINY
            target = _against(tensor, factors, mode)
            system = gram + near * torch.eye(len(gram), dtype=gram.dtype)
            solved = torch.linalg.solve(system, (target + near * old * scale).T).T
            scale = solved.norm(dim=0).clamp_min(TINY)
            factors[mode] = solved / scale
        overlap, norm = float((target * solved).sum()), float((gram * (solved.T @ solved)).sum())
        error = max(total - 2 * overlap + norm, 0.0)
        gain, before = before - error, error
        if enough is not None and (error <= enough or error - PATIENCE * gain > enough):
            break
        if gain <= CP_TOLERANCE * error or error <= 1e-14 * total:
            break
    return Cp(tuple(factor * scale ** (1 / len(factors)) for factor in factors), error)


def _normalised(factors: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Columns of norm 1, and the norms of the components `[rank]`."""
    norms = [factor.norm(dim=0).clamp_min(TINY) for factor in factors]
    return [factor / norm for factor, norm in zip(factors, norms, strict=True)], torch.stack(norms).prod(dim=0)


def _gram(factors: Sequence[Tensor], leave: int) -> Tensor:
    """The products of every two components, over all modes but one: `[rank, rank]`."""
    others = [factor.T @ factor for mode, factor in enumerate(factors) if mode != leave]
    return torch.stack(others).prod(dim=0)


def _against(tensor: Tensor, factors: Sequence[Tensor], leave: int) -> Tensor:
    """The tensor times each component's vectors in all modes but one: `[size, rank]`, the widest mode first."""
    axes = string.ascii_lowercase[: tensor.ndim]
    order = sorted((m for m in range(tensor.ndim) if m != leave), key=lambda m: -tensor.shape[m])
    result, now = tensor, axes
    for mode in order:
        then = now.replace(axes[mode], "").replace("z", "") + "z"
        result = torch.einsum(f"{now},{axes[mode]}z->{then}", result, factors[mode])
        now = then
    return result
