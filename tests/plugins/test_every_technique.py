"""What holds for all techniques together; what holds for each, and for pairs, is in the conformance kit."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import optuna
import pluggy
import pytest
import torch
from torch import nn

from nas_edge import (
    ArchSpec,
    CandidateSpec,
    Context,
    InvalidCandidate,
    Scope,
    SearchSpace,
    Step,
    Technique,
    hookspecs,
    pipeline,
)
from nas_edge.config import TrainConfig
from nas_edge.export import check_parity, export_onnx, logits, session
from nas_edge.latency.graph import parameter_count
from nas_edge.pipeline import produce
from nas_edge.plugins import Registry
from nas_edge.steps import active_steps, order_techniques
from nas_edge.train.trainer import ImageTrainer

from ..latency.optimised import theirs
from .all_techniques import BY_NAME, CONFIGS, OTHERS, TECHNIQUES, names, sets_of, shared
from .toys import CHANNELS, SIDE, every_block, inputs, toy, toy_context

ALL_BLOCKS = every_block.__name__
# Of the logits' norm. A graph stage that packs changes at most the last digits of the weights, and nothing of what was
# trained in integers; one that rounds to integers of 8 bits gives noise of 0.002 to 0.014 on these networks.
EXACT, INTEGER_NOISE = 2e-6, 0.05
each = pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: t.name)


@each
def test_what_is_sampled_are_its_fields(technique: Technique) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    fields = set(technique.config_to_json(technique.config_type()))
    for _ in range(20):
        trial = study.ask()
        config = technique.suggest(Scope(trial, technique.name))
        values = technique.config_to_json(config)
        assert technique.config_from_json(json.loads(json.dumps(values))) == config
        assert trial.params
        assert set(trial.params) <= {f"{technique.name}.{field}" for field in fields}
        assert all(values[name.split(".")[1]] == value for name, value in trial.params.items())


def test_the_order_follows_from_the_declarations() -> None:
    place = {t.name: index for index, t in enumerate(TECHNIQUES)}
    for technique in TECHNIQUES:
        assert technique.after <= place.keys()
        assert all(place[earlier] < place[technique.name] for earlier in technique.after)
    for turn in range(len(TECHNIQUES)):
        assert order_techniques(reversed(TECHNIQUES[turn:] + TECHNIQUES[:turn])) == TECHNIQUES


def test_what_decides_the_precision_acts_on_the_final_network() -> None:
    deciding = {t.name for t in TECHNIQUES if "precision" in t.exclusive}
    assert deciding == {"qat", "quantize", "weight_codes"}
    assert all(BY_NAME[name].after == BY_NAME.keys() - deciding for name in deciding)


class EveryBlock(SearchSpace):
    """The toy network as a search space of one."""

    name = ALL_BLOCKS

    def build(self, params: Any, *, in_channels: int, num_classes: int, resolution: int) -> nn.Module:
        return every_block()


def registry() -> Registry:
    hooks = pluggy.PluginManager("nas_edge")
    hooks.add_hookspecs(hookspecs)
    hooks.register(pipeline)
    return Registry(hooks, BY_NAME, {ALL_BLOCKS: EveryBlock()})


def spec(techniques: tuple[Technique, ...], configs: dict[str, Any]) -> CandidateSpec:
    steps = (Step(t.name, t.version, t.config_to_json(configs[t.name])) for t in techniques)
    return CandidateSpec(ArchSpec(ALL_BLOCKS, 1, {}), tuple(steps))


@pytest.mark.parametrize("techniques", sets_of(2, legal=False), ids=names)
def test_two_that_decide_the_same_are_refused(techniques: tuple[Technique, ...]) -> None:
    first, second = techniques
    with pytest.raises(InvalidCandidate) as caught:
        active_steps(registry(), spec(techniques, CONFIGS))
    message = str(caught.value)
    assert repr(first.name) in message and repr(second.name) in message
    assert all(what in message for what in shared(techniques)) and "turn one of them off" in message


def test_all_other_sets_are_accepted() -> None:
    legal, illegal = sets_of(2, 3, 4, 5), sets_of(2, 3, 4, 5, legal=False)
    assert [len(sets_of(size)) for size in (2, 3, 4, 5, 6)] == [18, 22, 13, 3, 0]
    for techniques in legal:
        assert [s.technique for s in active_steps(registry(), spec(techniques, CONFIGS))] == list(techniques)
    for techniques in illegal:
        with pytest.raises(InvalidCandidate):
            active_steps(registry(), spec(techniques, CONFIGS))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return toy_context(tmp_path_factory.mktemp("work"), teacher=toy("plain"))


@pytest.fixture(scope="module")
def plain_count() -> int:
    """The parameters of the network with every block as it is."""
    return parameter_count(export_onnx(toy(ALL_BLOCKS), channels=CHANNELS, resolution=SIDE))


def compose(
    techniques: tuple[Technique, ...], name: str, configs: dict[str, Any], context: Context
) -> tuple[nn.Module, onnx.ModelProto, onnx.ModelProto]:
    """Built, trained for a step, exported, and run: what torch computes, but for what a graph stage rounds.

    Gives the finalized network, its export, and the final file.
    """
    model: nn.Module = toy(name)
    for technique in techniques:
        model = technique.structure(model, configs[technique.name], context)
    objectives = {t.name: o for t in techniques if (o := t.objective(configs[t.name], context))}
    assert ("distill" in objectives) == (BY_NAME["distill"] in techniques)
    model = context.trainer.fit(model, samples=32, objectives=list(objectives.values()))
    for technique in techniques:
        model = technique.finalize(model, configs[technique.name], context)
    graph = export_onnx(model, channels=CHANNELS, resolution=SIDE)
    check_parity(model, graph, inputs())  # 1e-4 for floats; integer kernels may round to another step
    final = graph
    for technique in techniques:
        final = technique.graph(final, configs[technique.name], context)
    exact, found = (logits(session(g, threads=1), inputs().numpy()) for g in (graph, final))
    noise = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert noise < (INTEGER_NOISE if BY_NAME["quantize"] in techniques else EXACT)
    assert (final is graph) == (not any(t.overrides("graph") for t in techniques))
    return model, graph, final


def check_effects(
    on: set[str], configs: dict[str, Any], count: int, model: nn.Module, graph: onnx.ModelProto, final: onnx.ModelProto
) -> None:
    """Each technique left its mark on the file, whatever acted before and after it."""
    parameters = parameter_count(graph)
    assert parameters < 0.9 * count if on & {"prune", "low_rank"} else parameters == count
    gives_biases = "quantize" in on and configs["quantize"].bias_correction
    assert parameter_count(final) >= parameters if gives_biases else parameter_count(final) == parameters
    if "sparsify" in on:
        weights = [p for p in model.parameters() if p.ndim > 1]
        zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
        assert zeros > 0.9 * configs["sparsify"].sparsity
    if on & {"qat", "quantize"}:
        left = configs["quantize"].float_layers if "quantize" in on else 0
        assert theirs(final)["int8 convolution"] >= Counter(n.op_type for n in graph.graph.node)["Conv"] - left
    if "weight_codes" in on:
        assert final.ByteSize() < 0.5 * graph.ByteSize()


@pytest.mark.parametrize("techniques", sets_of(4, 5), ids=names)
def test_they_compose(techniques: tuple[Technique, ...], taught: Context, plain_count: int) -> None:
    check_effects({t.name for t in techniques}, CONFIGS, plain_count, *compose(techniques, ALL_BLOCKS, CONFIGS, taught))


@pytest.mark.parametrize("techniques", sets_of(3), ids=names)
def test_they_compose_in_another_way(techniques: tuple[Technique, ...], taught: Context, plain_count: int) -> None:
    check_effects({t.name for t in techniques}, OTHERS, plain_count, *compose(techniques, ALL_BLOCKS, OTHERS, taught))


def made_by_the_engine(
    techniques: tuple[Technique, ...], configs: dict[str, Any], context: Context, folder: Path, *, trained: bool = True
) -> bytes:
    """The file that a candidate with these techniques ships."""
    train = TrainConfig(batch_size=32, device="cpu")
    trainer = ImageTrainer(context.data, train, seed=1)
    folder.mkdir()
    context = replace(context, trainer=trainer, work_dir=folder, seed=1, samples=128, trained=trained)
    candidate = produce(registry(), spec(techniques, configs), context, train)
    assert candidate.techniques == tuple(t.name for t in techniques)
    assert np.isfinite(logits(session(folder / "model.onnx", threads=1), inputs().numpy())).all()
    return (folder / "model.onnx").read_bytes()


WAYS = {"configs": CONFIGS, "others": OTHERS}


def digests(way: str, folder: Path) -> dict[str, str]:
    """The hashes of the files that the engine makes with each of the largest sets."""
    taught = toy_context(folder, teacher=toy("plain"))
    files = {names(s): made_by_the_engine(s, WAYS[way], taught, folder / names(s)) for s in sets_of(5)}
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


@pytest.mark.parametrize("way", [pytest.param("configs", marks=pytest.mark.long), "others"])
def test_the_engine_makes_the_same_file_in_another_process(way: str, tmp_path: Path) -> None:
    """In each process Python goes through sets of words in another order."""
    code = f"import json, pathlib; from {__name__} import digests; "
    code += f"print(json.dumps(digests({way!r}, pathlib.Path({str(tmp_path)!r}, 'other'))))"
    environment = {**os.environ, "PYTHONHASHSEED": "123", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    for name in ("here", "other"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=environment, stdout=subprocess.PIPE, check=True
    )
    found = digests(way, tmp_path / "here")
    assert len(found) == 3 and json.loads(done.stdout) == found


@pytest.mark.parametrize("techniques", [s for s in sets_of(4) if BY_NAME["low_rank"] not in s], ids=names)
def test_the_quick_pass_has_the_kernels_of_the_trained_file(
    techniques: tuple[Technique, ...], taught: Context, tmp_path: Path
) -> None:
    """Layer by layer, pruning leaves the same widths whatever the weights are; ranks would follow from them."""
    quick, trained = (
        onnx.load_model_from_string(made_by_the_engine(techniques, CONFIGS, taught, tmp_path / str(on), trained=on))
        for on in (False, True)
    )
    assert theirs(quick) == theirs(trained)
    assert parameter_count(quick) == parameter_count(trained)


@pytest.mark.parametrize("techniques", sets_of(5), ids=names)
def test_the_quick_pass_takes_all_of_them(
    techniques: tuple[Technique, ...], taught: Context, tmp_path: Path, plain_count: int
) -> None:
    quick = made_by_the_engine(techniques, OTHERS, taught, tmp_path / "quick", trained=False)
    assert parameter_count(onnx.load_model_from_string(quick)) < 0.9 * plain_count
