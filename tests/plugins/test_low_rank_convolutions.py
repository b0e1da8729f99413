"""Full convolutions: where a kernel has the form that a method seeks, the chain computes what the layer did."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nas_edge import Context
from nas_edge.export import check_parity, export_onnx
from nas_edge_plugins.low_rank import LowRank, LowRankConfig
from nas_edge_plugins.low_rank.layers import macs_of, weights_of, whole

from .low_rank_toys import chain_in, drawn, on_images
from .toys import CHANNELS, SIDE, inputs, parameter_count

IN, OUT = 10, 12
CHAINS = {  # the kernels of the layers of each chain, in order, for a 3 x 3 one
    "vertical first": [(3, 1), (1, 3)],
    "horizontal first": [(1, 3), (3, 1)],
    "tucker2": [(1, 1), (3, 3), (1, 1)],
    "separable": [(1, 1), (3, 1), (1, 3), (1, 1)],
    "joint": [(1, 1), (3, 3), (1, 1)],
}
METHOD_OF = {"vertical first": "spatial", "horizontal first": "spatial", "separable": "cp", "joint": "cp"}
each_form = pytest.mark.parametrize("form", CHAINS)


def kernel(form: str, height: int, width: int) -> Tensor:
    """`[OUT, IN, height, width]` of rank 2, or of ranks 3 and 4, in one of the forms."""
    if form == "tucker2":
        return torch.einsum("rsyx,or,is->oiyx", drawn(4, 3, height, width), drawn(OUT, 4), drawn(IN, 3)) / 20
    if form == "joint":
        return torch.einsum("or,ir,yxr->oiyx", drawn(OUT, 2), drawn(IN, 2, seed=1), drawn(height, width, 2, seed=2)) / 5
    if form == "separable":
        lines = drawn(height, 2, seed=2), drawn(width, 2, seed=3)
        return torch.einsum("or,ir,yr,xr->oiyx", drawn(OUT, 2), drawn(IN, 2, seed=1), *lines) / 5
    formula = "riy,orx->oiyx" if form == "vertical first" else "rix,ory->oiyx"
    sides = (height, width) if form == "vertical first" else (width, height)
    return torch.einsum(formula, drawn(2, IN, sides[0]), drawn(OUT, 2, sides[1], seed=1)) / 5


def config_for(form: str, **fields: object) -> LowRankConfig:
    method, kernel = METHOD_OF.get(form, form), "separable" if form == "separable" else "joint"
    config = LowRankConfig(0.999999, 1, method, cp_kernel=kernel)
    return replace(config, **fields)  # type: ignore[arg-type]


@each_form
@pytest.mark.parametrize(
    "shape",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False},
        {"kernel_size": (3, 5), "stride": (1, 2), "padding": (0, 3), "dilation": (2, 1)},
        {"kernel_size": (5, 3), "stride": (3, 1), "padding": 4, "dilation": 2, "bias": False},
        {"kernel_size": (5, 3), "padding": "same", "dilation": (1, 3)},
        {"kernel_size": 2, "stride": 2, "padding": "valid"},
    ],
    ids=str,
)
def test_a_kernel_of_that_form_keeps_its_function(form: str, shape: dict[str, object], context: Context) -> None:
    layer = nn.Conv2d(IN, OUT, **shape)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.weight.copy_(kernel(form, *layer.kernel_size))
    factored = LowRank().structure(on_images(layer), config_for(form), context)
    chain = chain_in(factored)
    ranks = (4, 3) if form == "tucker2" else (2,)
    assert chain[0].out_channels == ranks[-1]
    assert chain[-1].in_channels == ranks[0]
    images = drawn(2, IN, 17, 14)
    torch.testing.assert_close(nn.Sequential(*chain)(images), layer(images), rtol=1e-3, atol=1e-3)
    assert all(part.bias is None for part in chain[:-1])
    torch.testing.assert_close(chain[-1].bias, layer.bias, rtol=0, atol=0)


@each_form
def test_the_chain_and_its_onnx_file(form: str, context: Context) -> None:
    layer = nn.Conv2d(IN, OUT, 3, 2, 1)
    with torch.no_grad():
        layer.weight.copy_(kernel(form, 3, 3))
    model = on_images(layer).eval()
    factored = LowRank().structure(model, config_for(form), context)
    chain = chain_in(factored)
    assert [part.kernel_size for part in chain] == CHAINS[form]
    depthwise = [part.groups > 1 for part in chain]
    assert depthwise == (
        [False, *[True] * (len(chain) - 2), False] if form in ("separable", "joint") else [False] * len(chain)
    )
    graph = export_onnx(factored, channels=CHANNELS, resolution=SIDE)
    assert sum(node.op_type == "Conv" for node in graph.graph.node) == 1 + len(chain)
    assert check_parity(factored, graph, inputs(), 1e-4) < 1e-4
    assert check_parity(model, graph, inputs(), 1e-3) < 1e-3


def effective(chain: nn.Module, size: int) -> Tensor:
    """The kernel `[out, in, size, size]` that a chain without padding amounts to: what it makes of single pixels."""
    pixels = torch.zeros(IN, IN, 2 * size - 1, 2 * size - 1)
    pixels[range(IN), range(IN), size - 1, size - 1] = 1
    with torch.no_grad():
        kernel: Tensor = chain(pixels).flip(2, 3).transpose(0, 1)
    return kernel


@pytest.mark.parametrize("method", ["spatial", "tucker2", "cp", "auto"])
def test_what_is_kept_is_what_was_asked_for(method: str, context: Context) -> None:
    layer = nn.Conv2d(IN, OUT, 3, bias=False)
    weight = drawn(OUT, IN, 3, 3, seed=4)
    layer.weight = nn.Parameter(weight)
    counts = []
    for energy in (0.3, 0.5, 0.7):
        factored = LowRank().structure(on_images(layer), LowRankConfig(energy, 1, method), context)
        chain = factored.get_submodule("1")
        kept = 1 - float((weight - effective(chain, 3)).pow(2).sum() / weight.pow(2).sum())
        assert energy - 1e-6 <= kept < energy + 0.15
        counts.append(parameter_count(chain))
    assert 0 < counts[0] < counts[1] < counts[2] < weight.numel()


def test_a_full_rank_of_tucker_needs_no_convolution_of_its_own(context: Context) -> None:
    """Three channels of an image stay: the core reads them itself, and computes the same."""
    layer = nn.Conv2d(IN, OUT, 3, bias=False)
    layer.weight = nn.Parameter(torch.einsum("riyx,or->oiyx", drawn(3, IN, 3, 3), drawn(OUT, 3)))
    factored = LowRank().structure(on_images(layer), LowRankConfig(0.999999, 1, "tucker2"), context)
    chain = chain_in(factored)
    assert [(part.in_channels, part.out_channels, part.kernel_size) for part in chain] == [
        (IN, 3, (3, 3)),
        (3, OUT, (1, 1)),
    ]
    torch.testing.assert_close(effective(nn.Sequential(*chain), 3), layer.weight.detach(), rtol=1e-4, atol=1e-4)


@each_form
def test_parts_have_the_weights_and_multiply_adds_of_torch(form: str, context: Context) -> None:
    """Counted by hooks on the layers as they run: outputs times the weights that each is computed from."""
    layer = nn.Conv2d(IN, OUT, (3, 3), (2, 1), (1, 2), bias=False)
    layer.weight = nn.Parameter(kernel(form, 3, 3))
    chain = chain_in(LowRank().structure(on_images(layer), config_for(form), context))
    counted = 0

    def count(part: nn.Module, _: object, output: Tensor) -> None:
        nonlocal counted
        counted += output.numel() * part.get_parameter("weight")[0].numel()

    for part in (*chain, layer):
        part.register_forward_hook(count)
    images = drawn(1, IN, 13, 9)
    parts = [whole(part) for part in chain]
    nn.Sequential(*chain)(images)
    assert macs_of(parts, [(13, 9)]) == counted
    assert weights_of(parts) == sum(part.weight.numel() for part in chain)
    counted = 0
    layer(images)
    layer(images[:, :, :7])
    assert macs_of([whole(layer)], [(13, 9), (7, 9)]) == counted
