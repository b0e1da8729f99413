"""The parts of the networks against closed forms, and their dependency graph."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
import torch_pruning
from torch import nn

from nas_edge_spaces.mobilenet.architecture import channels
from nas_edge_spaces.mobilenet.attention import SelfAttention, SpatialAttention, SqueezeExcite
from nas_edge_spaces.mobilenet.blocks import Block
from nas_edge_spaces.mobilenet.layers import RESIDUAL_SCALE

from .networks import build, images, params


def test_self_attention_is_multi_head_attention_on_small_maps() -> None:
    """Against torch's own multi-head attention with the same weights."""
    torch.manual_seed(0)
    ours = SelfAttention(32, side=5).eval()
    theirs = nn.MultiheadAttention(32, ours.heads, bias=False, batch_first=True)
    with torch.no_grad():
        stacked = torch.cat([conv.weight[:, :, 0, 0] for conv in (ours.query, ours.key, ours.value)])
        theirs.in_proj_weight.copy_(stacked)
        theirs.out_proj.weight.copy_(ours.project[0].weight[:, :, 0, 0])  # type: ignore[index]
        x = torch.randn(2, 32, 5, 5)
        tokens = x.flatten(2).transpose(1, 2)
        mixed, _ = theirs(tokens, tokens, tokens)
        # A batch norm that has seen nothing divides by sqrt(1 + eps).
        scale = RESIDUAL_SCALE / math.sqrt(1 + 1e-5)
        expected = x + scale * mixed.transpose(1, 2).reshape(x.shape)
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [*range(2, 64), 112])
def test_pooling_covers_the_map_and_leaves_at_most_seven_by_seven(side: int) -> None:
    attention = SelfAttention(8, side)
    x = torch.ones(1, 1, side, side, requires_grad=True)
    pooled = attention.pool(x)
    assert pooled.shape[-1] == attention.pooled_side <= 7
    assert pooled.shape[-1] >= min(side, 4)
    torch.testing.assert_close(pooled, torch.ones_like(pooled))
    (gradient,) = torch.autograd.grad(pooled.sum(), x)
    assert (gradient > 0).all()


def test_queries_keys_and_values_are_marked_for_pruners() -> None:
    attention = SelfAttention(16, side=4)
    marked = [m for m in attention.modules() if getattr(m, "nas_edge_keep_channels", False)]
    assert marked == [attention.query, attention.key, attention.value]


def test_heads_stand_in_blocks_of_the_layers_that_are_named() -> None:
    """With one block less in each of them and one head less, the others compute what they did."""
    torch.manual_seed(0)
    attention = SelfAttention(64, side=4).eval()
    x = torch.randn(2, 64, 4, 4)
    with torch.no_grad():
        attention.value.weight[16:32] = 0  # what head 1 gives
        expected = attention(x)
        rest = torch.tensor([*range(16), *range(32, 64)])
        for name in attention.head_outputs:
            layer = attention.get_submodule(name)
            layer.weight = nn.Parameter(layer.weight[rest])  # type: ignore[index]
        for name in attention.head_inputs:
            layer = attention.get_submodule(name)
            layer.weight = nn.Parameter(layer.weight[:, rest])  # type: ignore[index]
        attention.heads -= 1
        torch.testing.assert_close(attention(x), expected)


def test_squeeze_excite_with_a_zero_gate_halves_its_input() -> None:
    attention = SqueezeExcite(16)
    nn.init.zeros_(attention.gate[3].weight)  # type: ignore[arg-type]
    nn.init.zeros_(attention.gate[3].bias)  # type: ignore[arg-type]
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(attention(x), x / 2)


def test_spatial_attention_gates_by_mean_and_maximum() -> None:
    attention = SpatialAttention()
    with torch.no_grad():
        attention.conv.weight.zero_()
        attention.conv.bias.zero_()  # type: ignore[union-attr]
        attention.conv.weight[0, 0, 3, 3], attention.conv.weight[0, 1, 3, 3] = 2.0, -1.0
        x = torch.randn(2, 6, 5, 5)
        gate = ((2 * x.mean(1) - x.max(1).values) / 6 + 0.5).clamp(0, 1)
        torch.testing.assert_close(attention(x), x * gate.unsqueeze(1))


def test_residuals_stand_where_shapes_allow() -> None:
    for inputs, outputs, stride in product((16, 24), (16, 24), (1, 2)):
        block = Block(inputs, outputs, kernel=3, stride=stride, expansion=2, attention="none", activation="relu").eval()
        nn.init.zeros_(block.layers[-1][0].weight)  # type: ignore[index]
        x = torch.randn(1, inputs, 6, 6)
        expected = x if inputs == outputs and stride == 1 else torch.zeros(1, outputs, 6 // stride, 6 // stride)
        assert torch.equal(block(x), expected)


def test_channels_are_multiples_of_eight_within_ten_percent_below() -> None:
    assert [channels(16, m) for m in (0.5, 0.75, 1.0, 1.25)] == [8, 16, 16, 24]
    for width, multiplier in product(range(16, 200, 16), (0.5, 0.75, 1.0, 1.25)):
        found = channels(width, multiplier)
        assert found % 8 == 0
        assert 0.9 * width * multiplier <= found <= width * multiplier + 4.0


@pytest.mark.parametrize(("attention", "block"), list(product(("none", "se", "self"), ("separable", "inverted"))))
def test_channels_can_be_pruned_through_every_block(attention: str, block: str) -> None:
    """Half of the channels of each dependency group, through residuals, depthwise convolutions and gates."""
    model = build(params(0, attention=attention, block=block, depth=2), 1, 28).eval()
    before = {name: p.numel() for name, p in model.named_parameters()}
    example = images(2, 1, 28)
    marked = [m for m in model.modules() if getattr(m, "nas_edge_keep_channels", False)]
    classifier = next(m for m in model.modules() if isinstance(m, nn.Linear))
    widths = [m.out_channels for m in marked]
    pruner = torch_pruning.pruner.BasePruner(
        model,
        example,
        torch_pruning.importance.MagnitudeImportance(),
        pruning_ratio=0.5,
        ignored_layers=[*marked, classifier],
    )
    pruner.step()
    after = {name: p.numel() for name, p in model.named_parameters()}
    assert sum(after.values()) < 0.7 * sum(before.values())
    assert [m.out_channels for m in marked] == widths
    assert model(example).isfinite().all()
