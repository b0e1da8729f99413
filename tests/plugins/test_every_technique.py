"""What holds for each technique, and for all of them together on every kind of network."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import nn

from nas_edge import Context, InvalidCandidate, Scope, Technique
from nas_edge.export import check_parity, export_onnx, logits, session
from nas_edge_plugins.distill import Distill, DistillConfig
from nas_edge_plugins.low_rank import LowRank, LowRankConfig
from nas_edge_plugins.prune import Prune, PruneConfig
from nas_edge_plugins.quantize import Quantize, QuantizeConfig

from .toys import CHANNELS, SIDE, TOYS, inputs, toy, toy_context

TECHNIQUES: list[Technique] = [Prune(), LowRank(), Distill(), Quantize()]  # a legal order
CONFIGS: dict[str, Any] = {
    "prune": PruneConfig(0.4, "layer", "l2", 4),
    "low_rank": LowRankConfig(0.7, 4),
    "distill": DistillConfig(),
    "quantize": QuantizeConfig(32),
}
each = pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: t.name)


def world() -> tuple[Any, ...]:
    """What a technique must leave as it found it."""
    numpy_state = np.random.get_state()
    return (
        torch.get_rng_state().tolist(),
        (numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]),  # type: ignore[index]
        torch.get_num_threads(),
        torch.is_grad_enabled(),
    )


@each
@pytest.mark.parametrize("grad", [True, False])
def test_model_and_world_are_untouched(technique: Technique, grad: bool, context: Context) -> None:
    model, teacher = toy("squeeze_excite"), toy("plain")
    model.get_submodule("1.0").requires_grad_(False)
    graph = export_onnx(model, channels=CHANNELS, resolution=SIDE)
    config = CONFIGS[technique.name]
    before, shape, content = copy.deepcopy(model), repr(model), graph.SerializeToString()
    context = replace(context, teacher=teacher)
    with torch.set_grad_enabled(grad):
        outside = world()
        technique.structure(model, config, context)
        technique.objective(config, context)
        technique.finalize(model, config, context)
        technique.graph(graph, config, context)
        assert world() == outside
    assert repr(model) == shape
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    for (name, value), (_, old) in zip(model.named_parameters(), before.named_parameters(), strict=True):
        assert torch.equal(value, old), name
        assert value.requires_grad == old.requires_grad, name
        assert value.grad is None, name
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), before.buffers(), strict=True))
    assert graph.SerializeToString() == content
    assert teacher.training


@each
def test_config_round_trips_through_json(technique: Technique) -> None:
    for config in (CONFIGS[technique.name], technique.config_type()):
        text = json.dumps(technique.config_to_json(config))
        assert technique.config_from_json(json.loads(text)) == config


@each
def test_suggested_configs_are_valid_and_under_its_own_name(technique: Technique) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        config = technique.suggest(Scope(trial, technique.name))
        assert technique.config_from_json(technique.config_to_json(config)) == config
        assert trial.params
        assert {name.split(".")[0] for name in trial.params} == {technique.name}
        assert {name.split(".")[1] for name in trial.params} <= set(technique.config_to_json(config))


@pytest.mark.parametrize(
    ("technique", "field", "value"),
    [
        ("prune", "ratio", 1.0),
        ("prune", "ratio", 0),
        ("prune", "ratio", float("nan")),
        ("prune", "ratio", "half"),
        ("prune", "scope", "everywhere"),
        ("prune", "criterion", "l3"),
        ("prune", "round_to", 0),
        ("prune", "round_to", 8.0),
        ("low_rank", "energy", 1.0),
        ("low_rank", "energy", 0.0),
        ("low_rank", "rank_multiple", 0),
        ("low_rank", "rank_multiple", True),
        ("quantize", "calibration_images", 0),
        ("quantize", "ranges", "widest"),
        ("quantize", "percentile", 100.0),
        ("distill", "temperature", 0),
        ("distill", "temperature", float("inf")),
        ("distill", "weight", -1),
    ],
)
def test_a_bad_config_is_refused_with_its_value(technique: str, field: str, value: object) -> None:
    (found,) = (t for t in TECHNIQUES if t.name == technique)
    with pytest.raises(InvalidCandidate) as caught:
        found.config_from_json({field: value})
    message = str(caught.value)
    assert message.startswith(f"{technique}: {field}={value!r} must be ")
    assert "try" in message or "use" in message


def combinations() -> list[tuple[Technique, ...]]:
    pairs = list(itertools.combinations(TECHNIQUES, 2))
    return [*((t,) for t in TECHNIQUES), *pairs, tuple(TECHNIQUES)]


def test_the_order_is_what_the_techniques_declare() -> None:
    for earlier, later in itertools.combinations(TECHNIQUES, 2):
        assert later.name not in earlier.after
    assert TECHNIQUES[3].after == {"prune", "low_rank", "distill"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return toy_context(tmp_path_factory.mktemp("work"), teacher=toy("plain"))


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("techniques", combinations(), ids=lambda ts: "+".join(t.name for t in ts))
def test_they_compose(techniques: tuple[Technique, ...], name: str, shared: Context, tmp_path: Path) -> None:
    """Built, trained for a step, exported, and run: the float file as torch computes, the int8 one close to it."""
    model: nn.Module = toy(name)
    for technique in techniques:
        model = technique.structure(model, CONFIGS[technique.name], shared)
    objectives = [o for t in techniques if (o := t.objective(CONFIGS[t.name], shared))]
    assert len(objectives) == sum(t.needs_teacher for t in techniques)
    model = shared.trainer.fit(model, samples=32, objectives=objectives)
    for technique in techniques:
        model = technique.finalize(model, CONFIGS[technique.name], shared)
    graph = export_onnx(model, channels=CHANNELS, resolution=SIDE)
    assert check_parity(model, graph, inputs(), 1e-4) < 1e-4
    exact = logits(session(graph), inputs().numpy())
    final = graph
    for technique in techniques:
        final = technique.graph(final, CONFIGS[technique.name], shared)
    found = logits(session(final), inputs().numpy())
    noise = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert noise < (0.05 if any(t.name == "quantize" for t in techniques) else 1e-9)
    assert (final is graph) == (not any(t.overrides("graph") for t in techniques))
