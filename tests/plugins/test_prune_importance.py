"""How important a channel is by each criterion: against closed forms, finite differences, a forward pass by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_edge import Context
from nas_edge_plugins.prune import Prune, PruneConfig
from nas_edge_plugins.prune.groups import channel_groups, trace
from nas_edge_plugins.prune.importance import importances, training_batches

from .toys import CHANNELS, SIDE, images, toy

Batch = tuple[Tensor, Tensor]


def batches(count: int, size: int = 16) -> list[Batch]:
    split = images(count * size, 5)
    return [
        (split.images[i : i + size].double() / 255, split.labels[i : i + size]) for i in range(0, count * size, size)
    ]


def judged(model: nn.Module, criterion: str, data: list[Batch]) -> dict[str, Tensor]:
    """The importances of the groups that may be cut, by the name of each layer that gives their channels."""
    graph = trace(model, torch.full((1, CHANNELS, SIDE, SIDE), 0.5, dtype=torch.float64))
    groups = [g for g in channel_groups(graph, set()) if not g.why_kept]
    names = {layer: name for name, layer in model.named_modules()}
    found = zip(groups, importances(model, groups, criterion, data), strict=True)
    return {names[part.layer]: i for g, i in found for part in g.parts if part.dim == 0}


def layers_of(model: nn.Module, name: str = "1") -> list[nn.Module]:
    return list(model.get_submodule(name).children())


def rate_of_loss(model: nn.Module, scale: Callable[[float], None], data: Batch) -> float:
    """dE/da at a = 1, by a central difference, where `scale(a)` multiplies some parameters by a."""
    step = 1e-6
    losses = []
    for factor in (1 + step, (1 - step) / (1 + step)):
        scale(factor)
        with torch.no_grad():
            losses.append(float(F.cross_entropy(model(data[0]), data[1])))
    scale(1 / (1 - step))
    return (losses[0] - losses[1]) / (2 * step)


@torch.no_grad()
def scale_depthwise(model: nn.Module, channel: int, factor: float) -> None:
    """All that belongs to a channel of the first group of the depthwise network, written down by hand."""
    first, norm, _, filtered, filtered_norm, _, reader = layers_of(model)[:7]
    for layer in (first, norm, filtered, filtered_norm):
        for parameter in layer.parameters():
            parameter[channel] *= factor
    reader.weight[:, channel] *= factor  # type: ignore[operator,index]


def test_taylor_is_the_rate_of_the_loss_when_a_channel_shrinks() -> None:
    model, data = toy("depthwise").double().eval(), batches(3)
    expected = torch.zeros(32, dtype=torch.float64)
    for channel in range(32):
        rates = [rate_of_loss(model, partial(scale_depthwise, model, channel), each) for each in data]
        expected[channel] = torch.tensor(rates, dtype=torch.float64).abs().mean()
    found = judged(model, "taylor", data)["1.0"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)


def test_activation_is_the_mean_of_what_the_group_reads() -> None:
    model, data = toy("depthwise").double().eval(), batches(2)
    inputs = model[0](torch.cat([x for x, _ in data]))
    expected: dict[str, Tensor] = {}
    with torch.no_grad():
        layers = layers_of(model)
        for index, layer in enumerate(layers):
            if index in (3, 6):  # the depthwise convolution and the pointwise one read the first group's channels
                expected["1.0"] = expected.get("1.0", 0) + inputs.abs().mean((0, 2, 3))
            if isinstance(layer, nn.Linear):
                expected["1.6"] = inputs.abs().mean(0)
            inputs = layer(inputs)
    found = judged(model, "activation", data)
    assert found.keys() == {"1.0", "1.1", "1.3", "1.4", "1.6", "1.7"}
    for name, importance in expected.items():
        torch.testing.assert_close(found[name], importance, rtol=1e-9, atol=0)


def test_a_channel_of_a_flattened_map_is_the_mean_of_its_features() -> None:
    model, data = toy("plain").double().eval(), batches(1)
    with torch.no_grad():
        features = nn.Sequential(model[0], *layers_of(model)[:-1])(data[0][0])
    expected = features.abs().mean(0).reshape(64, 4).mean(1)
    torch.testing.assert_close(judged(model, "activation", data)["1.6"], expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("criterion", ["l1", "l2", "activation", "taylor"])
def test_no_criterion_depends_on_the_order_of_channels(criterion: str) -> None:
    """Renumbering the channels of a residual group renumbers its importances and nothing else."""
    model, data = toy("squeeze_excite").double().eval(), batches(2)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    shuffled = copy.deepcopy(model)
    network, block = layers_of(shuffled), layers_of(shuffled, "1.3.layers")
    with torch.no_grad():
        for layer in (network[0], network[1], block[-2], block[-1]):
            for value in (*layer.parameters(), *layer.buffers()):
                if value.dim():
                    value.copy_(value[order].clone())
        for reader in (block[0], network[-1]):
            reader.weight.copy_(reader.weight[:, order].clone())  # type: ignore[operator,index]
    torch.testing.assert_close(shuffled(data[0][0]), model(data[0][0]))
    found, expected = judged(shuffled, criterion, data), judged(model, criterion, data)
    torch.testing.assert_close(found["1.0"], expected["1.0"][order], rtol=1e-7, atol=1e-12)
    assert expected["1.0"].std() > 0


def kept(model: nn.Module, pruned: nn.Module) -> list[int]:
    """Which filters of the first convolution are still there."""
    before, after = model.get_submodule("1.0").weight, pruned.get_submodule("1.0").weight
    assert isinstance(before, Tensor)
    assert isinstance(after, Tensor)
    return [i for i in range(len(before)) if any(torch.equal(before[i], row) for row in after)]


def prepared() -> tuple[nn.Sequential, list[int], list[int]]:
    """A network with channels of large weights that are never active, and others that nothing reads."""
    model = toy("plain").eval()
    convolution, norm, _, reader = layers_of(model)[:4]
    silent, unread = [1, 5, 8, 30], [0, 2, 13, 21]
    with torch.no_grad():
        convolution.weight[silent + unread] *= 20  # type: ignore[operator,index]
        norm.bias[silent] = -1e4  # type: ignore[operator]
        reader.weight[:, unread] = 0  # type: ignore[operator]
    return model, silent, unread


def test_each_criterion_cuts_what_it_says(context: Context) -> None:
    model, silent, unread = prepared()
    found = {}
    for criterion in ("l2", "activation", "taylor"):
        config = PruneConfig(4 / 32, "layer", criterion, 1, importance_images=64)
        cut = set(range(32)) - set(kept(model, Prune().structure(model, config, context)))
        assert len(cut) == 4
        found[criterion] = cut
    assert not found["l2"] & {*silent, *unread}  # the largest weights
    assert found["activation"] == set(silent)
    assert found["taylor"] <= {*silent, *unread}  # neither changes the loss
    config = PruneConfig(8 / 32, "layer", "taylor", 1, importance_images=64)
    pruned = Prune().structure(model, config, context)
    assert set(range(32)) - set(kept(model, pruned)) == {*silent, *unread}
    assert context.notes[-1] == "taylor from 64 training images"


def test_global_scope_compares_contributions_to_the_loss_as_they_are(context: Context) -> None:
    """Between layers, too: the mean of a layer plays no part."""
    model = toy("plain")
    config = PruneConfig(0.4, "global", "taylor", 1, importance_images=320)
    pruned = Prune().structure(model, config, context)
    graph = trace(frozen := copy.deepcopy(model).eval(), torch.full((1, CHANNELS, SIDE, SIDE), 0.5))
    groups = [g for g in channel_groups(graph, set()) if not g.why_kept]
    data = training_batches(context.data.train, 320, context.seed, torch.device("cpu"))
    scores = importances(frozen, groups, "taylor", data)
    threshold = torch.cat(scores).sort().values[int(0.4 * 144)]
    expected = {g.name: int((s >= threshold).sum()) for g, s in zip(groups, scores, strict=True)}
    assert {name: pruned.get_submodule(name).out_channels for name in expected} == expected
    shares = [count / g.units for count, g in zip(expected.values(), groups, strict=True)]
    assert max(shares) - min(shares) > 0.2


def test_images_are_drawn_by_the_seed_and_each_at_most_once(context: Context) -> None:
    cpu, split = torch.device("cpu"), context.data.train
    first, again, other = (list(training_batches(split, 100, seed, cpu)) for seed in (0, 0, 1))
    assert [len(labels) for _, labels in first] == [32, 32, 32, 4]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    everything = list(training_batches(split, 10_000, 0, cpu))
    drawn = torch.cat([x for x, _ in everything]).flatten(1).sum(1).sort().values
    torch.testing.assert_close(drawn, (split.images.float() / 255).flatten(1).sum(1).sort().values)
