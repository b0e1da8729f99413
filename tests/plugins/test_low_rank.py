"""Low rank: the error is that of the discarded singular values, and only layers that shrink are factored."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nas_edge import Context
from nas_edge.export import export_onnx
from nas_edge_plugins.low_rank import LowRank, LowRankConfig
from nas_edge_plugins.low_rank.factor import factor_layers, factors, is_matrix, rank_for_energy

from .toys import CHANNELS, SIDE, TOYS, inputs, parameter_count, toy


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("energy", [0.6, 0.9, 0.99])
def test_the_error_is_the_discarded_energy(energy: float) -> None:
    weight = drawn(40, 24).double()
    narrow, wide = factors(weight, energy, multiple=1)
    values = torch.linalg.svdvals(weight)
    rank = len(narrow)
    error = ((weight - wide @ narrow) ** 2).sum()
    torch.testing.assert_close(error, (values[rank:] ** 2).sum())
    assert error <= (1 - energy) * (values**2).sum()
    assert (values[rank - 1 :] ** 2).sum() > (1 - energy) * (values**2).sum()  # one rank less would lose more


@pytest.mark.parametrize(
    ("energy", "multiple", "rank"),
    [(0.5, 1, 1), (0.64, 1, 1), (0.65, 1, 2), (0.9, 1, 2), (0.99, 1, 3), (0.5, 2, 2), (0.99, 8, 3)],
)
def test_rank_by_energy(energy: float, multiple: int, rank: int) -> None:
    assert rank_for_energy(torch.tensor([8.0, 5.8, 1.5]), energy, multiple) == rank  # shares 0.64, 0.337, 0.023


def test_a_zero_layer_has_rank_one() -> None:
    assert rank_for_energy(torch.zeros(5), 0.9, 1) == 1


@pytest.mark.parametrize("kind", ["linear", "pointwise", "strided pointwise"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_of_low_rank_keeps_its_function(kind: str, bias: bool) -> None:
    stride = 2 if kind.startswith("strided") else 1
    layer: nn.Linear | nn.Conv2d = (
        nn.Linear(32, 48, bias=bias) if kind == "linear" else nn.Conv2d(32, 48, 1, stride, bias=bias)
    )
    with torch.no_grad():
        layer.weight.copy_((drawn(48, 3) @ drawn(3, 32)).reshape(layer.weight.shape) / 10)
    x = drawn(4, 32) if kind == "linear" else drawn(4, 32, 9, 9)
    model, report = factor_layers(nn.Sequential(layer), 0.999999, 1)
    torch.testing.assert_close(model(x), layer(x), atol=1e-5, rtol=1e-5)
    assert parameter_count(model) == 3 * (32 + 48) + 48 * bias
    assert report == "factored 1 of 1 linear and pointwise layers"


def decaying(model: nn.Module) -> nn.Module:
    """The model with matrices as training leaves them: each singular value 0.7 of the one before."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and is_matrix(layer):
            left, values, right = torch.linalg.svd(layer.weight.detach().flatten(1), full_matrices=False)
            values = 2 * 0.7 ** torch.arange(len(values))
            with torch.no_grad():
                layer.weight.copy_((left * values @ right).reshape(layer.weight.shape))
    return model


def test_parameters_and_bytes_fall_with_the_energy(context: Context) -> None:
    model = decaying(toy("inverted_residual"))
    sizes = []
    for energy in (0.99, 0.9, 0.6):
        factored = LowRank().structure(model, LowRankConfig(energy, 1), context)
        sizes.append((parameter_count(factored), export_onnx(factored, channels=CHANNELS, resolution=SIDE).ByteSize()))
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3
    assert sizes[0][0] < parameter_count(model)


@pytest.mark.parametrize("name", TOYS)
def test_the_difference_shrinks_as_energy_grows(name: str, context: Context) -> None:
    model = decaying(toy(name)).eval()
    errors = []
    for energy in (0.5, 0.8, 0.95):
        factored = LowRank().structure(model, LowRankConfig(energy, 1), context)
        errors.append((factored(inputs()) - model(inputs())).norm().item())
    assert errors[0] > errors[1] > errors[2]


def test_a_layer_that_would_grow_is_left_alone_and_named(context: Context) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIDE * SIDE, 16), nn.ReLU(), nn.Linear(16, 5))
    factored = LowRank().structure(model, LowRankConfig(0.99, 8), context)
    assert parameter_count(factored) == parameter_count(model)
    assert context.notes == [
        "factored 0 of 2 linear and pointwise layers; left alone, for their factors would be as large: 1, 3"
    ]


def test_only_plain_matrices_are_factored(context: Context) -> None:
    class Special(nn.Linear):
        """Its owner may read the weight."""

    model = nn.Sequential(Special(64, 64), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 1, groups=2))
    factored, report = factor_layers(model, 0.1, 1)
    assert [type(m) for m in factored.children()] == [Special, nn.Conv2d, nn.Conv2d]
    assert report == "factored 0 of 0 linear and pointwise layers"


def test_marks_and_modes_stay(context: Context) -> None:
    model = toy("self_attention")
    model.get_submodule("1.3.query").requires_grad_(False)
    factored = LowRank().structure(model, LowRankConfig(0.5, 1), context)
    query = factored.get_submodule("1.3.query")
    first, second = query.children()
    assert query.nas_edge_keep_channels
    assert second.nas_edge_keep_channels
    assert query.training
    assert second.out_channels == 32
    assert not any(p.requires_grad for p in query.parameters())
    assert parameter_count(first) + parameter_count(second) < 32 * 33
