"""Weight codes on networks: which layers have them, training with them, and configs."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn

from nas_edge import Context, InvalidCandidate, Scope
from nas_edge_plugins.parametrized import attach, attached, bake
from nas_edge_plugins.weight_codes import CODES, WeightCodes, WeightCodesConfig
from nas_edge_plugins.weight_codes.layers import layers_in_order
from nas_edge_plugins.weight_codes.straight_through import WeightCode

from .toys import TOYS, SqueezeExcite, conv, head, toy


class Mask(nn.Module):
    """Keeps what it is told to, as pruning does."""

    kept: Tensor

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept


def weight_of(model: nn.Module, name: str) -> Tensor:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return weight.detach()


@pytest.mark.parametrize("code", CODES)
def test_pruned_zeros_stay_zero(code: str, context: Context) -> None:
    """With a mask before the codes, through training, and in the layer that is left."""
    model = toy("plain").train()
    layer = model.get_submodule("1.3")
    assert isinstance(layer, nn.Conv2d)
    kept = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(0)) > 0.6
    attach(layer, Mask(kept))
    config = WeightCodesConfig(code=code, ends="coded")
    coded = WeightCodes().structure(model, config, context)
    trained = context.trainer.fit(coded, samples=64)
    values = weight_of(trained, "1.3")
    assert not values[~kept].any()
    assert values[kept].any()
    if code == "binary":
        assert values[kept].all()
    bake(trained, Mask)
    plain = WeightCodes().finalize(trained, config, context).get_submodule("1.3")
    assert type(plain) is nn.Conv2d
    assert torch.equal(plain.weight, values)
    assert len(values[0].unique()) <= config.level_count + (code == "binary")


def separable() -> nn.Module:
    return nn.Sequential(
        *conv(3, 32, stride=2), nn.ReLU(), *conv(32, 32, groups=32), nn.ReLU(), *conv(32, 64, 1), nn.ReLU(), *head(64)
    )


def kinds(config: WeightCodesConfig, context: Context) -> dict[str, str]:
    coded = WeightCodes().structure(separable(), config, context)
    return {name: type(code).__name__ for name, _, code in attached(coded, WeightCode)}


def test_which_layers_are_coded(context: Context) -> None:
    first, depthwise, pointwise, last = "0", "3", "6", "11"
    whole = kinds(WeightCodesConfig("codebook", 4), context)
    assert whole == {first: "Codebook", depthwise: "Uniform", pointwise: "Codebook", last: "Codebook"}
    assert context.notes[-1].startswith("codebook codes at 4 bits for 3 layers (3,")
    assert context.notes[-1].endswith("the first and the last layer are to be coded")
    assert kinds(WeightCodesConfig("ternary"), context) == {depthwise: "Uniform", pointwise: "Ternary"}
    assert f"float: {first}, {last}" in context.notes[-1]
    ends = kinds(WeightCodesConfig("binary", ends="int8", depthwise="float"), context)
    assert ends == {first: "Uniform", pointwise: "Binary", last: "Uniform"}
    assert f"float: {depthwise}" in context.notes[-1]
    everywhere = kinds(WeightCodesConfig("binary", ends="coded", depthwise="coded"), context)
    assert everywhere == dict.fromkeys((first, depthwise, pointwise, last), "Binary")


def test_layers_that_would_not_shrink_are_left_in_float(context: Context) -> None:
    model = nn.Sequential(*conv(3, 8), nn.ReLU(), *conv(8, 2, 1), nn.ReLU(), *head(2))
    config = WeightCodesConfig("codebook", 8)
    with pytest.raises(InvalidCandidate, match=r"code='codebook' finds no layer.*leave weight_codes out"):
        WeightCodes().structure(model, config, context)
    WeightCodes().structure(model, replace(config, bits=2), context)
    assert "float, for codes would not be smaller: 3, 8" in context.notes[-1]


class Backwards(nn.Module):
    """Has its last layer first, and one that it never uses."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Linear(8, 5)
        self.unused = nn.Linear(8, 8)
        self.early = nn.Sequential(*conv(3, 8), SqueezeExcite(8))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.late(self.early(x).mean((2, 3)))
        return out


def test_layers_come_in_the_order_of_their_use(context: Context) -> None:
    model = Backwards()
    statistics = [b.clone() for b in model.buffers()]
    names = [name for name, _ in layers_in_order(model, torch.rand(1, 3, 16, 16))]
    assert names == ["early.0", "early.2.gate.1", "early.2.gate.3", "late"]
    assert model.training
    assert all(torch.equal(b, old) for b, old in zip(model.buffers(), statistics, strict=True))
    WeightCodes().structure(model, WeightCodesConfig("uniform", 4), context)
    assert "float, for they are never called: unused" in context.notes[-1]


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("code", CODES)
def test_every_network_trains_and_bakes(name: str, code: str, context: Context) -> None:
    model = toy(name)
    before = [p.detach().clone() for p in model.parameters()]
    config = WeightCodesConfig(code=code, ends="coded", depthwise="coded")
    coded = WeightCodes().structure(model, config, context)
    trained = context.trainer.fit(coded, samples=64)
    for (layer, _, started), (_, _, ended) in zip(
        attached(coded, WeightCode), attached(trained, WeightCode), strict=True
    ):
        for (parameter, old), new in zip(started.named_parameters(), ended.parameters(), strict=True):
            assert not torch.equal(old, new), (layer, parameter)
    plain = WeightCodes().finalize(trained, config, context)
    assert not attached(plain, WeightCode)
    assert {type(m) for m in plain.modules()} == {type(m) for m in model.modules()}
    image = context.data.test.images.float() / 255
    with torch.no_grad():
        assert torch.equal(plain(image), trained(image))
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def accuracy_after(config: WeightCodesConfig, model: nn.Module, samples: int, context: Context) -> float:
    coded = WeightCodes().structure(model, config, context)
    if samples:
        coded = context.trainer.fit(coded, samples=samples)
    return context.trainer.accuracy(WeightCodes().finalize(coded.eval(), config, context), context.data.validation)


@pytest.mark.parametrize(
    "config",
    [
        WeightCodesConfig("uniform", 2, ends="coded"),
        WeightCodesConfig("codebook", 1, ends="coded"),
        WeightCodesConfig("codebook", 1, ends="coded", assignments="fixed"),
        WeightCodesConfig("logarithmic", 2, ends="coded"),
        WeightCodesConfig("ternary", ends="coded"),
        WeightCodesConfig("trained_ternary", ends="coded"),
        WeightCodesConfig("binary", ends="coded"),
    ],
    ids=lambda c: f"{c.code}-{c.assignments}",
)
def test_training_in_codes_beats_rounding_afterwards(config: WeightCodesConfig, context: Context) -> None:
    model = trained_toy(context)
    rounded, trained = (accuracy_after(config, model, samples, context) for samples in (0, 640))
    assert trained > rounded + 0.1


TRAINED: dict[str, nn.Module] = {}


def trained_toy(context: Context) -> nn.Module:
    """Trained once for all tests of this file."""
    if not TRAINED:
        TRAINED["plain"] = context.trainer.fit(toy("plain"), samples=1920)
    return TRAINED["plain"]


def test_more_bits_round_better(context: Context) -> None:
    model = trained_toy(context)
    weight = weight_of(model, "1.6")
    for code in ("uniform", "codebook"):
        errors = []
        for bits in (2, 3, 4, 6, 8):
            coded = WeightCodes().structure(model, WeightCodesConfig(code, bits), context)
            errors.append(float(((weight_of(coded, "1.6") - weight) ** 2).mean()))
        assert all(a > 2 * b for a, b in itertools.pairwise(errors))


def test_the_quick_pass_codes_the_same_layers(context: Context) -> None:
    for code in CODES:
        config = WeightCodesConfig(code=code)
        quick, whole = (
            WeightCodes().structure(toy("squeeze_excite"), config, replace(context, trained=trained))
            for trained in (False, True)
        )
        assert repr(quick) == repr(whole)


def test_frozen_layers_stay_frozen(context: Context) -> None:
    for code in CODES:
        model = toy("plain")
        model.get_submodule("1.3").requires_grad_(False)
        config = WeightCodesConfig(code=code)
        coded = WeightCodes().structure(model, config, context)
        assert not any(p.requires_grad for p in coded.get_submodule("1.3").parameters())
        assert all(p.requires_grad for p in coded.get_submodule("1.6").parameters())
        plain = WeightCodes().finalize(coded, config, context)
        assert not any(p.requires_grad for p in plain.get_submodule("1.3").parameters())


@pytest.mark.parametrize(
    "config",
    [
        {"code": "huffman"},
        {"bits": 0},
        {"bits": 9},
        {"bits": True},
        {"bits": 4.0},
        {"code": "uniform", "bits": 1},
        {"code": "logarithmic", "bits": 1},
        {"code": "ternary", "bits": 2},
        {"code": "trained_ternary", "bits": 2},
        {"code": "binary", "bits": 1},
        {"granularity": "layer"},
        {"ends": "skip"},
        {"depthwise": "auto"},
        {"initialisation": "random"},
        {"assignments": "learned"},
    ],
    ids=str,
)
def test_bad_configs_are_refused(config: dict[str, Any]) -> None:
    field = list(config)[-1]
    with pytest.raises(InvalidCandidate) as caught:
        WeightCodes().config_from_json(config)
    message = str(caught.value)
    assert message.startswith(f"weight_codes: {field}={config[field]!r} must be ")
    assert "try" in message or "use" in message


def test_configs_round_trip_and_suggestions_are_valid() -> None:
    technique = WeightCodes()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(40):
        trial = study.ask()
        config = technique.suggest(Scope(trial, technique.name))
        seen.add(config.code)
        text = json.dumps(technique.config_to_json(config))
        assert technique.config_from_json(json.loads(text)) == config
        assert set(trial.params) <= {"weight_codes.code", "weight_codes.bits"}
        assert ("weight_codes.bits" in trial.params) == config.takes_bits
    assert seen == set(CODES)
