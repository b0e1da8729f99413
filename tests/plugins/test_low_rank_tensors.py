"""The decompositions of low rank, against numpy: errors that theorems give, and tensors built to be exact."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_edge_plugins.low_rank import LowRankConfig
from nas_edge_plugins.low_rank.methods import Spatial, ways
from nas_edge_plugins.low_rank.tensors import Cp, Tucker2, cp, kept_by_rank, svd_factors, tucker2

from .low_rank_toys import drawn


def convolution(weight: Tensor) -> nn.Conv2d:
    outputs, inputs, height, width = weight.shape
    layer = nn.Conv2d(inputs, outputs, (height, width))
    layer.weight = nn.Parameter(weight)
    return layer


def composed(components: Cp) -> Tensor:
    """The tensor of a CP decomposition, by its definition: the sum of outer products."""
    columns = zip(*(factor.T.numpy() for factor in components.factors), strict=True)
    return torch.from_numpy(sum(functools.reduce(np.multiply.outer, vectors) for vectors in columns))


@pytest.mark.parametrize("rank", [1, 7, 24])
def test_the_error_of_a_rank_is_the_discarded_energy(rank: int) -> None:
    matrix = drawn(40, 24).double()
    values = np.linalg.svd(matrix.numpy(), compute_uv=False)
    narrow, wide = svd_factors(matrix, rank)
    assert (narrow.shape, wide.shape) == ((rank, 24), (40, rank))
    error = float(((matrix - wide @ narrow) ** 2).sum())
    assert error == pytest.approx((values[rank:] ** 2).sum(), rel=1e-9, abs=1e-18)
    np.testing.assert_allclose(kept_by_rank(matrix), np.cumsum(values**2))
    np.testing.assert_allclose(kept_by_rank(matrix.T), np.cumsum(values**2))
    assert torch.allclose(narrow.norm(dim=1), wide.norm(dim=0))  # both train at the same pace


@pytest.mark.parametrize("ranks", [(2, 3), (9, 3), (5, 7), (9, 7)])
def test_what_a_truncated_tucker_keeps(ranks: tuple[int, int]) -> None:
    """By projections on the singular vectors that numpy finds of each unfolding."""
    kernel = drawn(9, 7, 3, 2).double()
    left = np.linalg.svd(kernel.flatten(1).numpy())[0][:, : ranks[0]]
    right = np.linalg.svd(kernel.transpose(0, 1).flatten(1).numpy())[0][:, : ranks[1]]
    core = np.einsum("oiyx,or,is->rsyx", kernel.numpy(), left, right)
    start = Tucker2.of(kernel)
    assert float(start.kept()[ranks[0] - 1, ranks[1] - 1]) == pytest.approx((core**2).sum())
    found, outputs, inputs = tucker2(kernel, *ranks, sweeps=0, start=start)
    error = kernel - torch.einsum("rsyx,or,is->oiyx", found, outputs, inputs)
    assert float(error.pow(2).sum()) == pytest.approx(float(kernel.pow(2).sum()) - (core**2).sum(), abs=1e-12)


def test_iterating_a_tucker_gains_and_stays_orthonormal() -> None:
    kernel = drawn(12, 10, 3, 3).double()
    errors = []
    for sweeps in (0, 1, 20):
        core, outputs, inputs = tucker2(kernel, 4, 3, sweeps)
        error = kernel - torch.einsum("rsyx,or,is->oiyx", core, outputs, inputs)
        errors.append(float(error.pow(2).sum()))
        assert float(core.pow(2).sum()) == pytest.approx(float(kernel.pow(2).sum()) - errors[-1])
        torch.testing.assert_close(outputs.T @ outputs, torch.eye(4, dtype=torch.float64))
        torch.testing.assert_close(inputs.T @ inputs, torch.eye(3, dtype=torch.float64))
    assert errors[0] > errors[1] > errors[2]


def test_a_full_tucker_is_exact() -> None:
    kernel = drawn(6, 5, 3, 3).double()
    core, outputs, inputs = tucker2(kernel, 6, 5, sweeps=5)
    torch.testing.assert_close(torch.einsum("rsyx,or,is->oiyx", core, outputs, inputs), kernel)


@pytest.mark.parametrize(("shape", "rank"), [((16, 12, 9), 6), ((16, 12, 9), 12), ((14, 10, 3, 3), 5), ((8, 3, 25), 3)])
def test_cp_finds_a_tensor_of_its_rank(shape: tuple[int, ...], rank: int) -> None:
    built = Cp(tuple(drawn(size, rank, seed=mode).double() for mode, size in enumerate(shape)), 0.0)
    tensor = composed(built)
    found = cp(tensor, Cp.start(tensor, rank, seed=0), sweeps=300)
    torch.testing.assert_close(composed(found), tensor, rtol=0, atol=1e-5)
    norms = torch.stack([factor.norm(dim=0) for factor in found.factors])
    assert torch.allclose(norms, norms[:1].expand_as(norms))  # every mode has an equal share


def test_cp_states_its_error_and_a_matrix_of_cp_is_its_singular_values() -> None:
    tensor = drawn(10, 8, 9).double()
    errors = []
    for rank in (2, 8, 20):
        found = cp(tensor, Cp.start(tensor, rank, seed=3), sweeps=40)
        errors.append(found.error)
        assert found.error == pytest.approx(float((tensor - composed(found)).pow(2).sum()))
    assert errors[0] > errors[1] > errors[2]
    matrix = drawn(10, 8, 1).double()
    values = np.linalg.svd(matrix[:, :, 0].numpy(), compute_uv=False)
    found = cp(matrix, Cp.start(matrix, 3, seed=0), sweeps=300)
    assert found.error == pytest.approx((values[3:] ** 2).sum())


def test_cp_stops_where_it_shows_whether_an_error_is_reached() -> None:
    tensor = drawn(12, 12, 9).double()
    start = Cp.start(tensor, 12, seed=0)
    best = cp(tensor, start, sweeps=100).error
    reached = cp(tensor, start, sweeps=100, enough=1.2 * best)
    missed = cp(tensor, start, sweeps=100, enough=0.5 * best)
    assert best < reached.error <= 1.2 * best
    assert missed.error > 1.0 * best
    assert cp(tensor, reached, sweeps=100).error < reached.error  # it goes on from there


def test_cp_depends_on_its_seed_alone() -> None:
    tensor = drawn(6, 5, 9).double()
    runs = [cp(tensor, Cp.start(tensor, 12, seed), sweeps=5).factors[0] for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("order", ["vertical first", "horizontal first"])
def test_separable_kernels_are_exact(order: str) -> None:
    """Built by one of the two formulas, which its order alone can follow."""
    first, second = drawn(4, 7, 3), drawn(9, 4, 3, seed=1)  # [rank, in, side], [out, rank, side]
    weight = torch.einsum("riy,orx->oiyx" if order.startswith("v") else "rix,ory->oiyx", first, second)
    method = Spatial(convolution(weight), 1)
    assert method.kept((4,)) == pytest.approx(1.0)
    assert method.kept((3,)) < 1 - 1e-3
    assert [part.kernel for part in method.parts((4,))] == (
        [(3, 1), (1, 3)] if order.startswith("v") else [(1, 3), (3, 1)]
    )
    one, two = (w.reshape(part.shape) for w, part in zip(method.weights((4,)), method.parts((4,)), strict=True))
    made = torch.einsum("riyz,orzx->oiyx" if order.startswith("v") else "rizx,oryz->oiyx", one, two)
    torch.testing.assert_close(made, weight.double(), rtol=1e-5, atol=1e-5)


def test_the_order_is_that_which_keeps_more() -> None:
    weight = drawn(9, 7, 3, 3)
    method = Spatial(convolution(weight), 1)
    unfolded = {
        "vertical": weight.permute(0, 3, 1, 2).reshape(27, 21),
        "horizontal": weight.permute(0, 2, 1, 3).reshape(27, 21),
    }
    values = {name: np.linalg.svd(m.double().numpy(), compute_uv=False) for name, m in unfolded.items()}
    for rank in (1, 5, 12, 21):
        best = max((v[:rank] ** 2).sum() / (v**2).sum() for v in values.values())
        assert method.kept((rank,)) == pytest.approx(best)


@pytest.mark.parametrize("name", ["svd", "spatial", "tucker2", "cp"])
def test_a_zero_layer_keeps_everything_at_its_least_rank(name: str) -> None:
    layer = convolution(torch.zeros(6, 5, *((1, 1) if name == "svd" else (3, 3))))
    (method,) = ways(layer, LowRankConfig(rank_multiple=2, method=name), sweeps=10, seed=0)
    ranks = method.rungs()[0]
    assert method.name == name
    assert method.kept(ranks) == 1.0
    assert method.keeps(ranks, 0.99)
    weights = method.weights(ranks)
    assert all(torch.isfinite(weight).all() for weight in weights)
    assert any(weight.abs().max() < 1e-4 for weight in weights)  # so the chain gives 0
