"""Attention heads: whole ones are cut, the right ones, from every layer that they stand in."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_edge import Context, InvalidCandidate
from nas_edge.export import check_parity, export_onnx
from nas_edge_plugins.prune import Prune, PruneConfig
from nas_edge_plugins.prune.groups import PruningGroup, kept_whole
from nas_edge_plugins.prune.heads import HeadedAttention, head_groups
from nas_edge_plugins.prune.importance import importances
from nas_edge_spaces.mobilenet import MobileNetSpace
from nas_edge_spaces.mobilenet.attention import SelfAttention

from .toys import CHANNELS, SIDE, conv, head, images, inputs

WIDTH, HEADS = 64, 4
ATTENTION = "1.3"


class TokenAttention(nn.Module):
    """Another package's attention: linear layers on tokens `[batch, positions, width]`, with biases."""

    head_outputs = ("query", "key", "value")
    head_inputs = ("out",)

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, side = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        query, key, value = (
            f(tokens).unflatten(2, (self.heads, self.head_width)).transpose(1, 2)
            for f in (self.query, self.key, self.value)
        )
        mixed = F.softmax(query @ key.transpose(2, 3) * self.head_width**-0.5, -1) @ value
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(batch, -1, height, side)
        return x + out


def network(attention: nn.Module, *, only_heads: bool = True) -> nn.Sequential:
    """A network with an attention of width 64 on a 4 x 4 map; its other channels are kept where asked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = [*conv(CHANNELS, WIDTH, stride=4), nn.ReLU(), attention, *conv(WIDTH, 48, 1), nn.ReLU(), *head(48)]
        net = nn.Sequential(nn.Identity(), nn.Sequential(*layers)).eval()
        for parameter in attention.parameters():
            nn.init.normal_(parameter, std=0.3)
    for index in (0, 4) if only_heads else ():
        net.get_submodule(f"1.{index}").nas_edge_keep_channels = True  # type: ignore[assignment]
    return net


def attentions() -> list[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [SelfAttention(WIDTH, SIDE // 4), TokenAttention(WIDTH, HEADS)]


both = pytest.mark.parametrize("attention", attentions(), ids=lambda a: type(a).__name__)


def offered(module: nn.Module) -> SelfAttention | TokenAttention:
    assert isinstance(module, SelfAttention | TokenAttention)
    return module


def projection(attention: SelfAttention | TokenAttention) -> nn.Conv2d | nn.Linear:
    layer = attention.get_submodule(attention.head_inputs[0])
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return layer


@torch.no_grad()
def scale_head(attention: SelfAttention | TokenAttention, index: int, factor: float) -> None:
    """All that belongs to a head, written down by hand."""
    block = slice(index * 16, (index + 1) * 16)
    for layer in (attention.query, attention.key, attention.value):
        for parameter in layer.parameters():
            parameter[block] *= factor
    projection(attention).weight[:, block] *= factor


@both
def test_cutting_heads_that_were_dead_changes_nothing(attention: nn.Module, context: Context) -> None:
    model = network(copy.deepcopy(attention))
    for index in (0, 2):
        scale_head(offered(model.get_submodule(ATTENTION)), index, 0.0)
    pruned = Prune().structure(model, PruneConfig(0.5, "layer", "l2", 8), context)
    cut = offered(pruned.get_submodule(ATTENTION))
    assert cut.heads == 2
    assert {tuple(f.weight.shape[:2]) for f in (cut.query, cut.key, cut.value)} == {(32, WIDTH)}
    assert projection(cut).weight.shape[:2] == (WIDTH, 32)
    assert offered(model.get_submodule(ATTENTION)).heads == HEADS
    torch.testing.assert_close(pruned(inputs()), model(inputs()), atol=1e-5, rtol=1e-5)
    file = export_onnx(pruned, channels=CHANNELS, resolution=SIDE)
    assert check_parity(pruned, file, inputs(), 1e-4) < 1e-4
    assert (
        file.ByteSize() < export_onnx(model, channels=CHANNELS, resolution=SIDE).ByteSize() - 4 * 4 * 32 * WIDTH + 512
    )
    assert context.notes[-1].startswith("cut 18% of channels in 1 of 4 groups, 2 of 4 attention heads; kept ")


@both
def test_the_heads_that_stay_compute_what_they_did(attention: nn.Module, context: Context) -> None:
    """Against torch's scaled dot-product attention over the heads of largest norm."""
    model = network(copy.deepcopy(attention))
    whole = offered(model.get_submodule(ATTENTION))
    scale_head(whole, 1, 0.5)
    cut = offered(Prune().structure(model, PruneConfig(0.25, "layer", "l1", 16), context).get_submodule(ATTENTION))
    x = torch.randn(2, WIDTH, 4, 4, generator=torch.Generator().manual_seed(0))
    tokens, rest = x.flatten(2).transpose(1, 2), [0, 2, 3]
    split = [
        F.linear(tokens, f.weight.flatten(1), f.bias).unflatten(2, (HEADS, 16)).transpose(1, 2)[:, rest]
        for f in (whole.query, whole.key, whole.value)
    ]
    mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
    columns = projection(whole).weight.flatten(1).unflatten(1, (HEADS, 16))[:, rest].flatten(1)
    out = F.linear(mixed, columns, projection(whole).bias).transpose(1, 2).reshape(x.shape)
    if isinstance(whole, SelfAttention):
        out = whole.project[1](out)
    assert cut.heads == 3
    torch.testing.assert_close(cut(x), x + out, atol=1e-5, rtol=1e-5)


def only_group(model: nn.Module) -> PruningGroup:
    (group,), layers = head_groups(model, kept_whole(model))
    assert len(layers) == 3
    return group


@both
def test_importance_is_the_sum_over_all_that_belongs_to_a_head(attention: nn.Module) -> None:
    model = network(copy.deepcopy(attention)).double()
    whole = offered(model.get_submodule(ATTENTION))
    scale_head(whole, 3, 2.0)
    group = only_group(model)
    assert (group.units, group.width) == (HEADS, 16)
    for criterion, norm in (("l1", 1), ("l2", 2)):
        sums = [f.weight.abs().pow(norm).reshape(HEADS, -1).sum(1) for f in (whole.query, whole.key, whole.value)]
        sums.append(projection(whole).weight.abs().pow(norm).reshape(WIDTH, HEADS, -1).sum((0, 2)))
        (found,) = importances(model, [group], criterion, ())
        torch.testing.assert_close(found, torch.stack(sums).sum(0), rtol=1e-9, atol=0)
        assert found.argmax() == 3


@both
def test_taylor_of_a_head_is_the_rate_of_the_loss_when_it_shrinks(attention: nn.Module) -> None:
    model, split = network(copy.deepcopy(attention)).double(), images(16, 6)
    whole, step = offered(model.get_submodule(ATTENTION)), 1e-6
    pictures = split.images.double() / 255
    (found,) = importances(model, [only_group(model)], "taylor", [(pictures, split.labels)])
    for index in range(HEADS):
        losses = []
        for factor in (1 + step, (1 - step) / (1 + step)):
            scale_head(whole, index, factor)
            with torch.no_grad():
                losses.append(float(F.cross_entropy(model(pictures), split.labels)))
        scale_head(whole, index, 1 / (1 - step))
        assert float(found[index]) == pytest.approx(abs(losses[0] - losses[1]) / (2 * step), rel=1e-4)


@both
def test_activation_of_a_head_is_the_mean_of_what_it_gives(attention: nn.Module) -> None:
    model, split = network(copy.deepcopy(attention)).double(), images(16, 6)
    whole, pictures = offered(model.get_submodule(ATTENTION)), split.images.double() / 255
    with torch.no_grad():
        tokens = nn.Sequential(*list(model.get_submodule("1").children())[:3])(pictures).flatten(2).transpose(1, 2)
        query, key, value = (
            F.linear(tokens, f.weight.flatten(1), f.bias).unflatten(2, (HEADS, 16)).transpose(1, 2)
            for f in (whole.query, whole.key, whole.value)
        )
        expected = F.scaled_dot_product_attention(query, key, value).abs().mean((0, 2, 3))
    (found,) = importances(model, [only_group(model)], "activation", [(pictures, split.labels)])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("round_to", "heads"), [(8, 3), (16, 3), (32, 4), (64, 4)])
def test_the_channels_of_the_heads_are_a_multiple(round_to: int, heads: int, context: Context) -> None:
    model = network(SelfAttention(WIDTH, 4), only_heads=False)
    pruned = Prune().structure(model, PruneConfig(0.25, "layer", "l2", round_to), context) if round_to < 64 else model
    attention = offered(pruned.get_submodule(ATTENTION))
    assert attention.heads == heads
    assert attention.query.weight.shape[0] % round_to == 0


@both
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("criterion", ["l1", "taylor", "activation"])
def test_heads_and_channels_are_cut_together(
    attention: nn.Module, scope: str, criterion: str, context: Context
) -> None:
    model = network(copy.deepcopy(attention), only_heads=False)
    config = PruneConfig(0.5, scope, criterion, 8, "iterative", steps=2, importance_images=64)
    pruned = Prune().structure(model, config, context)
    cut = offered(pruned.get_submodule(ATTENTION))
    assert 1 <= cut.heads <= HEADS
    assert projection(cut).weight.shape[1] == 16 * cut.heads
    assert sum(p.numel() for p in pruned.parameters()) < 0.75 * sum(p.numel() for p in model.parameters())
    file = export_onnx(pruned, channels=CHANNELS, resolution=SIDE)
    assert check_parity(pruned, file, inputs(), 1e-4) < 1e-4


def test_one_head_stays(context: Context) -> None:
    pruned = Prune().structure(network(SelfAttention(WIDTH, 4)), PruneConfig(0.99, "layer", "l2", 1), context)
    assert offered(pruned.get_submodule(ATTENTION)).heads == 1
    assert pruned(inputs()).isfinite().all()


def test_a_mark_keeps_all_heads(context: Context) -> None:
    model = network(SelfAttention(WIDTH, 4))
    model.get_submodule(ATTENTION).nas_edge_keep_channels = True  # type: ignore[assignment]
    with pytest.raises(InvalidCandidate, match=r"no channels can be cut safely \(.*marked to keep"):
        Prune().structure(model, PruneConfig(0.5, "layer"), context)


def test_heads_in_layers_of_another_kind_are_kept() -> None:
    model = network(SelfAttention(WIDTH, 4))
    attention = offered(model.get_submodule(ATTENTION))
    attention.key = nn.Conv2d(WIDTH, WIDTH, 1, groups=2)
    assert only_group(model).why_kept == "not traceable"
    attention.key = nn.Conv2d(WIDTH, 66, 1)  # 66 channels are no 4 blocks
    assert only_group(model).why_kept == "not traceable"


def test_the_protocol_is_its_three_attributes() -> None:
    assert isinstance(SelfAttention(WIDTH, 4), HeadedAttention)
    assert not isinstance(nn.MultiheadAttention(WIDTH, HEADS), HeadedAttention)


class TorchAttention(nn.Module):
    """Torch's own multi-head attention on the positions of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        mixed, _ = self.attend(tokens, tokens, tokens, need_weights=False)
        out: Tensor = x + mixed.transpose(1, 2).reshape(x.shape)
        return out


@pytest.mark.parametrize("criterion", ["l2", "activation", "taylor"])
def test_a_network_with_torchs_attention_survives(criterion: str, context: Context) -> None:
    """Its own channels and those around it stay; the others are cut."""
    model = network(TorchAttention(), only_heads=False)
    config = PruneConfig(0.5, "layer", criterion, 8, importance_images=64)
    pruned = Prune().structure(model, config, context)
    widths = [m.out_channels for m in pruned.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [WIDTH, 24]
    assert pruned.get_submodule(ATTENTION + ".attend").num_heads == HEADS
    assert pruned(inputs()).shape == (8, 5)
    assert pruned(inputs()).isfinite().all()


def test_the_mobilenet_space_loses_heads_and_exports(context: Context) -> None:
    stages = [{"depth": 1, "width": 32, "block": "separable", "kernel": 3, "attention": "self"}]
    inverted = {"depth": 1, "block": "inverted", "expansion": 2, "kernel": 3, "stride": 2}
    stages.append({**inverted, "width": 48, "attention": "self"})
    params = {"input_scale": 1.0, "width_multiplier": 1.0, "activation": "relu", "stages": stages}
    params["stem"] = {"width": 32, "kernel": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        space = MobileNetSpace()
        model = nn.Sequential(space.build(params, in_channels=CHANNELS, num_classes=5, resolution=SIDE)).eval()
    pruned = Prune().structure(model, PruneConfig(0.5, "layer", "l2", 8), context)
    heads = [(m.heads, m.query.in_channels) for m in pruned.modules() if isinstance(m, SelfAttention)]
    assert heads == [(1, 16), (1, 16)]
    assert [m.heads for m in model.modules() if isinstance(m, SelfAttention)] == [2, 2]
    file = export_onnx(pruned, channels=CHANNELS, resolution=SIDE)
    assert check_parity(pruned, file, inputs(), 1e-4) < 1e-4
