"""Structured pruning: what is cut, that it is really gone, and that the rest computes what it did."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nas_edge import Context, InvalidCandidate
from nas_edge.export import export_onnx
from nas_edge_plugins.prune import Prune, PruneConfig
from nas_edge_plugins.prune.channels import kept_channels

from .toys import CHANNELS, SIDE, TOYS, conv, head, inputs, parameter_count, toy


def channel_importance(net: nn.Sequential, norm: int) -> list[torch.Tensor]:
    """Of the three layers of the plain network: filters, batch norm, and the weights that read the channel."""
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    found = []
    for here, scale, reader in zip(layers, norms, layers[1:], strict=False):
        assert isinstance(here, nn.Conv2d)
        read = reader.weight.detach()
        if isinstance(reader, nn.Linear):
            read = read.reshape(len(read), here.out_channels, -1)  # four features a channel
        own = here.weight.detach().double().abs().pow(norm).sum((1, 2, 3))
        found.append(
            own
            + scale.weight.detach().double().abs() ** norm
            + read.double().abs().pow(norm).transpose(0, 1).flatten(1).sum(1)
        )
    return found


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize(("criterion", "norm"), [("l1", 1), ("l2", 2)])
def test_the_channels_of_smallest_norm_are_cut_in_each_layer(context: Context, criterion: str, norm: int) -> None:
    model = toy("plain")
    pruned = Prune().structure(model, PruneConfig(0.5, "layer", criterion, 8), context)
    before, after = convolutions(model), convolutions(pruned)
    rows_in = torch.arange(CHANNELS)
    for here, cut, importance in zip(before, after, channel_importance(model, norm), strict=True):
        kept = importance.argsort(descending=True)[: here.out_channels // 2].sort().values
        assert torch.equal(cut.weight, here.weight[kept][:, rows_in])
        rows_in = kept


@pytest.mark.parametrize("norm", [1, 2])
def test_global_scope_cuts_the_least_of_all_relative_importances(context: Context, norm: int) -> None:
    model = toy("plain")
    pruned = Prune().structure(model, PruneConfig(0.4, "global", f"l{norm}", 1), context)
    relative = [i / i.mean() for i in channel_importance(model, norm)]
    threshold = torch.cat(relative).sort().values[int(0.4 * sum(map(len, relative)))]
    assert [m.out_channels for m in convolutions(pruned)] == [int((r >= threshold).sum()) for r in relative]


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("name", TOYS)
def test_parameters_and_bytes_fall_with_the_ratio(name: str, scope: str, context: Context) -> None:
    model = toy(name)
    sizes = []
    for ratio in (0.25, 0.5, 0.75):
        pruned = Prune().structure(model, PruneConfig(ratio, scope, "l2", 4), context)
        file = export_onnx(pruned, channels=CHANNELS, resolution=SIDE)
        sizes.append((parameter_count(pruned), file.ByteSize()))
        assert all(m.out_channels >= 4 for m in convolutions(pruned) if m.out_channels > 1)
        assert pruned(inputs()).shape == (8, 5)
    assert sizes[0][0] < parameter_count(model)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize("name", [n for n in TOYS if n != "spatial_attention"])  # its mean counts dead channels too
def test_cutting_channels_that_were_dead_changes_nothing(name: str, context: Context) -> None:
    model = toy(name).eval()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d) and not hasattr(layer, "nas_edge_keep_channels"):
            with torch.no_grad():
                layer.weight[::4] = 0
                if layer.bias is not None:
                    layer.bias[::4] = 0
    pruned = Prune().structure(model, PruneConfig(0.25, "layer", "l2", 1), context)
    assert parameter_count(pruned) < 0.8 * parameter_count(model)
    torch.testing.assert_close(pruned(inputs()), model(inputs()), atol=1e-5, rtol=1e-5)


def test_marked_layers_and_the_classifier_keep_their_outputs(context: Context) -> None:
    model = toy("self_attention")
    pruned = Prune().structure(model, PruneConfig(0.5, "layer", "l2", 4), context)
    marked = [m for m in convolutions(pruned) if getattr(m, "nas_edge_keep_channels", False)]
    assert [(m.out_channels, m.in_channels) for m in marked] == [(32, 16)] * 3
    assert [m.out_features for m in pruned.modules() if isinstance(m, nn.Linear)] == [5]
    assert context.notes[-1].endswith("; kept whole: marked to keep, the classifier's outputs")


def test_a_mark_on_a_block_holds_for_all_of_it(context: Context) -> None:
    model = toy("inverted_residual")
    model.get_submodule("1.3").nas_edge_keep_channels = True  # type: ignore[assignment]
    pruned = Prune().structure(model, PruneConfig(0.5, "layer", "l2", 8), context)
    assert [m.out_channels for m in convolutions(pruned)] == [24, 72, 72, 24, 40, 40, 24]


@pytest.mark.parametrize(
    ("channels", "cut", "round_to", "kept"),
    [(32, 9.6, 8, 24), (32, 3, 8, 32), (32, 31.9, 8, 8), (20, 1, 8, 16), (20, 0, 8, 20), (6, 3, 8, 6), (10, 3, 1, 7)],
)
def test_what_stays_is_rounded_to_the_multiple(channels: int, cut: float, round_to: int, kept: int) -> None:
    assert kept_channels(channels, cut, round_to) == kept


def test_nothing_to_cut_is_refused_with_the_numbers(context: Context) -> None:
    with pytest.raises(InvalidCandidate, match=r"prune: ratio=0\.1 with round_to=64 .* at most 64 channels"):
        Prune().structure(toy("plain"), PruneConfig(0.1, round_to=64), context)


class ChannelShuffle(nn.Module):
    """Moves channels between groups (ShuffleNet), which the dependency graph does not follow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, width, height, side = x.shape
        return x.reshape(batch, 2, width // 2, height, side).transpose(1, 2).reshape(batch, width, height, side)


def test_what_cannot_be_followed_is_kept(context: Context) -> None:
    net = nn.Sequential(
        *conv(CHANNELS, 32), ChannelShuffle(), *conv(32, 32, groups=4), *conv(32, 32), nn.ReLU(), *head(32)
    )
    pruned = Prune().structure(nn.Sequential(nn.Identity(), net), PruneConfig(0.5, "layer", "l2", 8), context)
    assert [m.out_channels for m in convolutions(pruned)] == [32, 32, 16]
    assert "2 not traceable" in context.notes[-1]


def test_a_network_that_does_not_run_is_refused(context: Context) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no such thing")

    with pytest.raises(InvalidCandidate, match="prune: the network cannot be traced: no such thing"):
        Prune().structure(nn.Sequential(Broken(), *head(CHANNELS)), PruneConfig(), context)


def test_gradient_flags_and_modes_are_those_of_the_model(context: Context) -> None:
    model = toy("plain")
    model.get_submodule("1.0").requires_grad_(False)
    model.get_submodule("1.1").eval()
    pruned = Prune().structure(copy.deepcopy(model), PruneConfig(0.5), context)
    assert {n: p.requires_grad for n, p in pruned.named_parameters()} == {
        n: p.requires_grad for n, p in model.named_parameters()
    }
    assert {n: m.training for n, m in pruned.named_modules()} == {n: m.training for n, m in model.named_modules()}
