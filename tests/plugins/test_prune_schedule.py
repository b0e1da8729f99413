"""Pruning a little at a time, the quick pass, and rounding to what the target's kernels like."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import nn

from nas_edge import Context, InvalidCandidate, Objective, Split, Target
from nas_edge_plugins.prune import CRITERIA, SCHEDULES, Prune, PruneConfig
from nas_edge_plugins.prune.rounding import channel_multiple

from .toys import TOYS, ToyTrainer, parameter_count, toy


def widths(model: nn.Module) -> list[int]:
    return [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]


@dataclass
class Recorder:
    """A trainer that says what it was asked, and trains like another."""

    inner: ToyTrainer
    samples: list[int] = field(default_factory=list)
    widths: list[list[int]] = field(default_factory=list)

    def fit(self, model: nn.Module, *, samples: int, objectives: Sequence[Objective] = ()) -> nn.Module:
        self.samples.append(samples)
        self.widths.append(widths(model))
        return self.inner.fit(model, samples=samples, objectives=objectives)

    def accuracy(self, model: nn.Module, split: Split) -> float:
        raise AssertionError("pruning asks for no accuracy")


def recorded(context: Context) -> tuple[Context, Recorder]:
    recorder = Recorder(ToyTrainer(context.data))
    return replace(context, trainer=recorder, samples=3200), recorder


def test_iterative_trains_between_the_cuts_on_the_stated_share(context: Context) -> None:
    context, recorder = recorded(context)
    config = PruneConfig(0.5, "layer", "l2", 4, "iterative", steps=5, train_share=0.3)
    model = toy("plain")
    pruned = Prune().structure(model, config, context)
    assert recorder.samples == [240] * 4  # 0.3 of 3200, over four trainings
    cuts = [[32 - 4, 48 - 4, 64 - 8], [24, 40, 52], [24, 32, 44], [20, 28, 40], [16, 24, 32]]
    assert [*recorder.widths, widths(pruned)] == cuts
    assert widths(model) == [32, 48, 64]
    assert context.notes[-1] == "in 5 steps, with training on 240 images after each but the last"
    assert context.notes[-2].startswith("cut 48% of channels in 3 of 4 groups; kept whole: the classifier's outputs")


class Puppet(ToyTrainer):
    """A trainer that shrinks the first filters that are left, so that the next cut must take them."""

    @torch.no_grad()
    def fit(self, model: nn.Module, *, samples: int, objectives: Sequence[Objective] = ()) -> nn.Module:
        model = copy.deepcopy(model)
        model[1][0].weight[:8] *= 1e-3  # type: ignore[index]
        model[1][1].weight[:8] *= 1e-3  # type: ignore[index]
        model[1][3].weight[:, :8] *= 1e-3  # type: ignore[index]
        return model.eval()


def test_each_cut_judges_the_trained_weights_afresh(context: Context) -> None:
    model = toy("plain")
    once = Prune().structure(model, PruneConfig(0.25, "layer", "l2", 1), context)
    context = replace(context, trainer=Puppet(context.data))
    config = PruneConfig(0.5, "layer", "l2", 1, "iterative", steps=2)
    pruned = Prune().structure(model, config, context)
    first, expected = pruned.get_submodule("1.0").weight, once.get_submodule("1.0").weight
    assert isinstance(first, torch.Tensor)
    assert isinstance(expected, torch.Tensor)
    assert torch.equal(first, expected[8:])


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("name", TOYS)
def test_iterative_ends_where_one_cut_would(name: str, scope: str, context: Context) -> None:
    """Layer by layer in the same widths; over all layers, near as many channels."""
    model, one = toy(name), PruneConfig(0.5, scope, "l2", 4)
    once = Prune().structure(model, one, context)
    slowly = Prune().structure(model, replace(one, schedule="iterative", steps=4), context)
    if scope == "layer":
        assert widths(slowly) == widths(once)
    else:
        assert abs(sum(widths(slowly)) - sum(widths(once))) <= 0.15 * sum(widths(model))
    assert parameter_count(slowly) < 0.9 * parameter_count(model)
    assert {n: m.training for n, m in slowly.named_modules()} == {n: m.training for n, m in model.named_modules()}


def test_pruning_slowly_keeps_more_accuracy(context: Context) -> None:
    """At the same width and the same training in all: more in the cuts, less after."""
    trainer = ToyTrainer(context.data)
    model = trainer.fit(toy("plain"), samples=960)
    context = replace(context, samples=1280)
    config = PruneConfig(0.75, "layer", "l2", 1, "iterative", steps=4, train_share=0.75)
    once = Prune().structure(model, replace(config, schedule="one_shot"), context)
    slowly = Prune().structure(model, config, context)
    before = trainer.accuracy(model, context.data.validation)
    right = [trainer.accuracy(pruned, context.data.validation) for pruned in (once, slowly)]
    assert before > 0.8
    assert right[1] > right[0] + 0.1
    assert widths(once) == widths(slowly)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_quick_pass_takes_neither_data_nor_training(criterion: str, schedule: str, context: Context) -> None:
    config = PruneConfig(0.4, "layer", criterion, 8, schedule, steps=3, importance_images=64)
    model = toy("squeeze_excite")
    trained = Prune().structure(model, config, context)
    context, recorder = recorded(replace(context, trained=False, notes=[]))
    unseen = replace(context.data, train=Split(context.data.train.images[:0], context.data.train.labels[:0]))
    quick = Prune().structure(model, config, replace(context, data=unseen))
    assert widths(quick) == widths(trained)
    assert recorder.samples == []
    assert (f"l2 in place of {criterion}, before training" in context.notes) == (criterion in ("activation", "taylor"))


@dataclass
class Board(Target):
    """A device that has only a fingerprint."""

    about: dict[str, Any]
    name: str = "board"

    def fingerprint(self) -> dict[str, Any]:
        return self.about


@pytest.mark.parametrize(
    ("about", "multiple", "why"),
    [
        ({"architecture": "x86_64", "instruction_sets": ["avx2", "avx512f"]}, 16, "a block of the target's kernels"),
        ({"architecture": "x86_64", "instruction_sets": ["avx2", "avx_vnni"]}, 8, "a block of the target's kernels"),
        ({"architecture": "aarch64"}, 8, "for the target's kernels compute 4 filters at a time"),
        ({"table": "of somebody"}, 16, "a block of the target's kernels"),
    ],
)
def test_auto_rounds_to_what_the_targets_kernels_work_on_at_once(
    about: dict[str, Any], multiple: int, why: str, context: Context
) -> None:
    context = replace(context, target=Board(about))
    model = toy("plain")
    auto = Prune().structure(model, PruneConfig(0.3, "layer", "l2", "auto"), context)
    assert context.notes[-1] == f"rounded to {multiple} channels, {why}"
    by_hand = Prune().structure(model, PruneConfig(0.3, "layer", "l2", multiple), context)
    assert widths(auto) == widths(by_hand) == {16: [16, 32, 48], 8: [24, 32, 48]}[multiple]


def test_a_number_asks_nothing_of_the_target() -> None:
    with pytest.raises(NotImplementedError):
        Target().fingerprint()
    assert channel_multiple(12, Target()) == (12, None)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_two_runs_give_the_same_bytes(criterion: str, schedule: str, context: Context) -> None:
    config = PruneConfig(0.5, "global", criterion, 4, schedule, steps=2, importance_images=64)
    model = toy("inverted_residual")
    states = []
    for noise in (0, 1):  # whatever the state outside
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(noise)
            states.append(Prune().structure(model, config, context).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("grad", [True, False])
def test_the_model_and_the_world_stay_as_they_were(criterion: str, schedule: str, grad: bool, context: Context) -> None:
    model = toy("squeeze_excite")
    model.get_submodule("1.0").requires_grad_(False)
    before = copy.deepcopy(model)
    config = PruneConfig(0.5, "layer", criterion, 4, schedule, steps=2, importance_images=64)
    with torch.set_grad_enabled(grad):
        state = torch.get_rng_state()
        pruned = Prune().structure(model, config, context)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.is_grad_enabled() == grad
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.state_dict().values(), strict=True)
    )
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert all(p.grad is None for p in [*model.parameters(), *pruned.parameters()])
    assert not any(m._forward_pre_hooks for m in [*model.modules(), *pruned.modules()])
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    assert {n: p.requires_grad for n, p in pruned.named_parameters()} == flags
    assert not flags["1.0.weight"]


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("criterion", "l3", "use 'l1'"),
        ("round_to", 0, "try 4, 8, 16 or 'auto'"),
        ("round_to", "best", "try 4, 8, 16 or 'auto'"),
        ("round_to", None, "try 4, 8, 16 or 'auto'"),
        ("schedule", "slow", "use 'one_shot'"),
        ("steps", 1, "use schedule='one_shot' for a single cut"),
        ("steps", 2.0, "try 2 to 8"),
        ("train_share", 0, "try 0.1 to 0.5"),
        ("train_share", float("inf"), "try 0.1 to 0.5"),
        ("importance_images", 0, "try 256 to 2048"),
    ],
)
def test_a_bad_config_is_refused_with_a_remedy(field: str, value: object, remedy: str) -> None:
    with pytest.raises(InvalidCandidate) as caught:
        Prune().config_from_json({field: value})
    assert str(caught.value).startswith(f"prune: {field}={value!r} must be ")
    assert str(caught.value).endswith(remedy)
