"""Ranks by latency, and layers that would be slower, with targets that charge for layers as they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nas_edge import Context
from nas_edge_plugins.low_rank import LowRank, LowRankConfig

from .low_rank_toys import chain_in, drawn
from .toys import CHANNELS, CLASSES, SIDE, inputs, parameter_count, toy

Price = Callable[[nn.Module, int], float]  # of a layer with so many multiply-adds, in ms


class PricedTarget:
    """Estimates a latency by the layers that run, 1 ms and `price` for each; it counts what it is asked."""

    def __init__(self, price: Price) -> None:
        self.price = price
        self.asked = 0

    def __call__(self, model: nn.Module) -> float:
        self.asked += 1
        total = 1.0

        def charge(layer: nn.Module, _: object, output: Tensor) -> None:
            nonlocal total
            total += self.price(layer, output.numel() * layer.get_parameter("weight")[0].numel())

        layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        with hooked(layers, charge), torch.no_grad():
            assert model(torch.zeros(1, CHANNELS, SIDE, SIDE)).shape == (1, CLASSES)
        return total


@contextmanager
def hooked(layers: Sequence[nn.Module], hook: Callable[..., None]) -> Iterator[None]:
    handles = [layer.register_forward_hook(hook) for layer in layers]
    yield
    for handle in handles:
        handle.remove()


def by_work(layer: nn.Module, macs: int) -> float:
    return macs / 1e5


def with_overhead(layer: nn.Module, macs: int) -> float:
    """As `by_work`, but every layer costs as much as 20,000 multiply-adds more."""
    return (macs + 20_000) / 1e5


def network() -> nn.Sequential:
    """Two alike pointwise layers, a small one, and two alike convolutions, of rank 12 at most and noise."""
    model = nn.Sequential(
        nn.Conv2d(CHANNELS, 64, 4, 4, bias=False),
        nn.Conv2d(64, 64, 1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 1),
        nn.ReLU(),
        nn.Conv2d(64, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, CLASSES),
    ).eval()
    for index, layer in enumerate(model):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight = nn.Parameter(drawn(*layer.weight.shape, seed=index) / 10)
    return model


def rank_of(model: nn.Module, name: str) -> int:
    """Of a layer that was factored by its singular values; 0 where it was not."""
    factored = isinstance(model.get_submodule(name), nn.Sequential)
    return chain_in(model, name)[0].out_channels if factored else 0


@pytest.mark.parametrize(("faster_by", "multiple"), [(0.1, 1), (0.3, 4), (0.5, 8), (0.7, 2)])
def test_the_largest_rank_that_is_fast_enough(faster_by: float, multiple: int, context: Context) -> None:
    """Without a target multiply-adds are its time: `rank (64 + 64) <= (1 - faster_by) 64 * 64`."""
    config = LowRankConfig(rank_by="latency", faster_by=faster_by, rank_multiple=multiple)
    factored = LowRank().structure(network(), config, context)
    expected = int((1 - faster_by) * 64 * 64 / 128 + 1e-9) // multiple * multiple
    assert rank_of(factored, "1") == rank_of(factored, "3") == expected
    assert "the target cannot be asked here: multiply-adds stood for its time" in context.notes[0]


@pytest.mark.parametrize("faster_by", [0.1, 0.3, 0.6])
def test_a_target_with_overhead_buys_fewer_ranks(faster_by: float, context: Context) -> None:
    """A layer is timed as what a second one adds: `16 * 64 * 64 + 20,000`; two cost the overhead once more."""
    target = PricedTarget(with_overhead)
    config = LowRankConfig(rank_by="latency", faster_by=faster_by, rank_multiple=4)
    factored = LowRank().structure(network(), config, replace(context, latency_ms=target))
    limit = (1 - faster_by) * (16 * 64 * 64 + 20_000) - 2 * 20_000
    assert rank_of(factored, "1") == rank_of(factored, "3") == max(int(limit / 16 / 128) // 4 * 4, 0)
    assert type(factored.get_submodule("11")) is nn.Linear
    left = f"left alone, for no rank makes them {faster_by:.0%} faster: "
    assert left in context.notes[0]
    assert context.notes[0].endswith("11")
    assert target.asked <= 2 + 3 * 5  # two alike are one question


def test_the_network_is_faster_by_what_was_asked_for(context: Context) -> None:
    target = PricedTarget(with_overhead)
    model = network()
    for method in ("spatial", "tucker2", "cp", "auto"):
        config = LowRankConfig(rank_multiple=2, method=method, rank_by="latency", faster_by=0.3)
        here = replace(context, latency_ms=target, notes=[])
        factored = LowRank().structure(model, config, here)
        for name in ("1", "5", "7"):
            before, after = (PricedTarget(with_overhead)(m) - 1 for m in only(model, factored, name))
            assert before == after or after <= 0.7 * before
        assert f"{target(model):.3g} to {target(factored):.3g} ms" in here.notes[0]
        assert parameter_count(factored) < parameter_count(model)


def only(model: nn.Module, factored: nn.Module, name: str) -> Iterator[nn.Module]:
    """The layers of one place alone, before and after, behind what makes their inputs of an image."""
    for source in (model, factored):
        layer, channels = source.get_submodule(name), model.get_submodule(name).get_parameter("weight").shape[1]
        yield nn.Sequential(Widened(channels), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), Narrowed())


class Widened(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1, ::4, ::4].expand(-1, self.channels, -1, -1)


class Narrowed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :CLASSES]


def no_narrow_layers(layer: nn.Module, macs: int) -> float:
    """The price of work, and 2 ms for a convolution that gives less than 16 channels."""
    narrow = isinstance(layer, nn.Conv2d) and layer.out_channels < 16
    return macs / 1e5 + (2.0 if narrow else 0.0)


@pytest.mark.parametrize("rank_by", ["energy", "ratio"])
def test_a_layer_that_would_be_slower_is_left_alone_and_named(rank_by: str, context: Context) -> None:
    """The same ranks pay or do not, by what the target makes of them."""
    config = LowRankConfig(0.2, 4, rank_by=rank_by, ratio=0.3)
    model = network()
    smaller = LowRank().structure(model, config, context)
    assert 0 < rank_of(smaller, "1") < 16
    slow, fast = PricedTarget(no_narrow_layers), PricedTarget(by_work)
    left = LowRank().structure(model, config, replace(context, latency_ms=slow))
    assert rank_of(left, "1") == rank_of(left, "3") == 0
    assert "left alone, for their factors would be no faster on the target: 1, 3" in context.notes[-1]
    factored = LowRank().structure(model, config, replace(context, latency_ms=fast))
    assert [rank_of(factored, name) for name in ("1", "3")] == [rank_of(smaller, name) for name in ("1", "3")]
    unchecked = replace(config, check_latency=False)
    assert repr(LowRank().structure(model, unchecked, replace(context, latency_ms=slow))) == repr(smaller)
    assert slow.asked <= 4  # as given, two alike, the classifier, and all together


def test_only_the_slow_ones_are_left_alone(context: Context) -> None:
    """With overhead the large layers gain, and the classifier, of 120 multiply-adds, loses."""
    config = LowRankConfig(0.3, 1)
    target = PricedTarget(with_overhead)
    factored = LowRank().structure(network(), config, replace(context, latency_ms=target))
    assert rank_of(factored, "1") > 0
    assert type(factored.get_submodule("11")) is nn.Linear
    assert context.notes[0].endswith("left alone, for their factors would be no faster on the target: 11")
    assert type(LowRank().structure(network(), config, context).get_submodule("11")) is nn.Sequential


def test_a_gain_too_small_to_tell_is_left_alone(context: Context) -> None:
    """The classifier has five outputs: its factors save next to nothing of the work."""
    config = LowRankConfig(0.2, 4)
    assert type(LowRank().structure(network(), config, context).get_submodule("11")) is nn.Sequential
    factored = LowRank().structure(network(), config, replace(context, latency_ms=PricedTarget(by_work)))
    assert rank_of(factored, "1") > 0 and type(factored.get_submodule("11")) is nn.Linear
    assert context.notes[-1].endswith("left alone, for their factors would be no faster on the target: 11")


def test_a_network_that_is_slower_as_a_whole_stays_as_it_was(context: Context) -> None:
    """Each group of layers gains alone, but a target need not add up."""

    def estimate(model: nn.Module) -> float:
        chains = sum(type(m) is nn.Sequential for m in model.modules()) - 1
        return {0: 10.0, 1: 9.0, 2: 9.0}.get(chains, 11.0)

    model = network()
    config = LowRankConfig(0.3, 4, "tucker2")
    factored = LowRank().structure(model, config, replace(context, latency_ms=estimate))
    assert repr(factored) == repr(model)
    assert "for the network with their factors would be no faster on the target: " in context.notes[0]


def test_layers_too_quick_to_matter_are_left_alone(context: Context) -> None:
    config = LowRankConfig(rank_by="latency")
    model = toy("inverted_residual")
    factored = LowRank().structure(model, config, replace(context, latency_ms=lambda _: 1.0))
    assert repr(factored) == repr(model)
    assert "left alone, for they take under 1% of the network's time: " in context.notes[0]


def test_the_model_is_as_it_was_while_it_is_timed(context: Context) -> None:
    """The estimates see whole models that run, the random state stays, and what is given is not changed."""
    model = network()
    before, outputs = repr(model), model(inputs())
    state = torch.get_rng_state()
    LowRank().structure(model, LowRankConfig(rank_by="latency"), replace(context, latency_ms=PricedTarget(by_work)))
    assert repr(model) == before
    assert torch.equal(model(inputs()), outputs)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_quick_pass_asks_only_where_ranks_depend_on_it(context: Context) -> None:
    model = network()
    for rank_by, asks in (("energy", False), ("ratio", False), ("latency", True)):
        config = LowRankConfig(rank_by=rank_by, rank_multiple=4)
        target = PricedTarget(with_overhead)
        quick = replace(context, latency_ms=target, trained=False)
        shape = repr(LowRank().structure(model, config, quick))
        assert (target.asked > 0) == asks
        if asks:
            assert shape == repr(LowRank().structure(model, config, replace(quick, trained=True)))
