"""From a spec to an ONNX file: the order of the techniques, the training in parts, the stages."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
import pluggy
import pytest
import torch
from torch import nn

from nas_edge import (
    ArchSpec,
    CandidateSpec,
    Context,
    InvalidCandidate,
    NasEdgeError,
    Objective,
    PluginError,
    Split,
    Step,
    StudyMismatch,
    Target,
    Technique,
    hookspecs,
    pipeline,
)
from nas_edge.config import TrainConfig
from nas_edge.onnx_files import read_onnx
from nas_edge.pipeline import build_model, produce, shares
from nas_edge.plugins import Registry
from nas_edge.records import TRAINING
from nas_edge.steps import ActiveStep, active_steps, order_techniques
from nas_edge.train.trainer import ImageTrainer

from .plugins.toys import toy_data
from .third_party.nas_edge_tiny.nas_edge_tiny import Tiny

ARCH = ArchSpec("tiny", 1, {"width": 4, "features": 8, "kernel": 3})


@dataclass(frozen=True)
class Config:
    amount: float = 0.5


def technique(name: str, *after: str, **stages: Any) -> Technique:
    """A technique with these stages, each a function of what the stage is given."""
    made: Technique = type(
        name, (Technique,), {"name": name, "after": frozenset(after), "config_type": Config, **stages}
    )()
    return made


@dataclass
class Recorder:
    """A trainer that trains nothing, and notes what it was asked for."""

    asked: list[tuple[int, int]] = field(default_factory=list)

    def fit(self, model: nn.Module, *, samples: int, objectives: Sequence[Objective] = ()) -> nn.Module:
        self.asked.append((samples, len(objectives)))
        return copy.deepcopy(model)

    def accuracy(self, model: nn.Module, split: Split) -> float:
        return 0.0


def make_registry(*techniques: Technique) -> Registry:
    hooks = pluggy.PluginManager("nas_edge")
    hooks.add_hookspecs(hookspecs)
    hooks.register(pipeline)
    return Registry(hooks, {t.name: t for t in techniques}, {"tiny": Tiny()})


def make_spec(*techniques: Technique) -> CandidateSpec:
    return CandidateSpec(ARCH, tuple(Step(t.name, t.version, {"amount": 0.25}) for t in techniques))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(toy_data(), Target(), Recorder(), tmp_path, seed=0, samples=100)


def make(context: Context, *techniques: Technique, share: float = 0.4) -> tuple[Any, list[tuple[int, int]]]:
    assert isinstance(context.trainer, Recorder)
    train = TrainConfig(recovery_share=share)
    return produce(make_registry(*techniques), make_spec(*techniques), context, train), context.trainer.asked


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_techniques_act_after_those_they_name_and_else_by_name(order: list[int]) -> None:
    techniques = [technique("b"), technique("a", "c"), technique("c", "absent"), technique("d", "a", "b")]
    assert [t.name for t in order_techniques(techniques[i] for i in order)] == ["b", "c", "a", "d"]


def test_a_circle_is_refused() -> None:
    with pytest.raises(PluginError, match=r"a circle of 'after': .*a.*b"):
        order_techniques([technique("a", "b"), technique("b", "a")])


def test_without_structure_all_training_is_one(context: Context) -> None:
    assert make(context)[1] == [(100, 0)]


def keep(self: Technique, model: Any, config: Config, context: Context) -> Any:
    return model


def test_with_structure_a_share_is_kept_for_recovery(context: Context) -> None:
    def objective(self: Technique, config: Config, context: Context) -> Objective:
        return Objective()

    def no_objective(self: Technique, config: Config, context: Context) -> None:
        return None

    techniques = [
        technique("a", structure=keep, objective=objective),
        technique("b", objective=objective),
        technique("c", objective=no_objective),
    ]
    assert make(context, *techniques)[1] == [(60, 0), (40, 2)]


@pytest.mark.parametrize(("samples", "share", "parts"), [(1, 0.4, [1, 1]), (2, 0.9, [1, 2]), (10, 0.01, [10, 1])])
def test_no_part_of_the_training_is_empty(samples: int, share: float, parts: list[int], context: Context) -> None:
    asked = make(replace(context, samples=samples), technique("a", structure=keep), share=share)[1]
    assert [s for s, _ in asked] == [max(1, samples - parts[1]), parts[1]]


def test_stages_thread_the_model_through_the_techniques(context: Context) -> None:
    seen: list[tuple[str, str, float]] = []

    def stage(name: str) -> Any:
        def act(self: Technique, subject: Any, config: Config, context: Context) -> Any:
            seen.append((self.name, name, config.amount))
            context.note(f"{self.name} at {name}")
            if isinstance(subject, onnx.ModelProto):
                made = onnx.ModelProto()
                made.CopyFrom(subject)
                made.doc_string += self.name
                return made
            return nn.Sequential(*copy.deepcopy(subject), nn.Identity())

        return act

    acting = {name: stage(name) for name in ("structure", "finalize", "graph")}
    candidate, _ = make(context, technique("a", **acting), technique("b", graph=acting["graph"]))
    assert seen == [("a", "structure", 0.25), ("a", "finalize", 0.25), ("a", "graph", 0.25), ("b", "graph", 0.25)]
    assert len(candidate.model) == 4
    assert candidate.onnx_path == context.work_dir / "model.onnx"
    graph = read_onnx(candidate.onnx_path)
    assert graph.doc_string == "ab" and graph == candidate.graph
    acted = [s for s in candidate.steps if s.technique != TRAINING]
    assert [(s.technique, s.stage, s.notes) for s in acted] == [(t, s, (f"{t} at {s}",)) for t, s, _ in seen]
    assert [s.stage for s in candidate.steps] == ["train", "structure", "recover", "finalize", "graph", "graph"]
    parameters = sum(p.numel() for p in candidate.model.parameters())
    assert [s.after.parameters for s in acted[:2]] == [parameters, parameters]
    sizes = [(s.before.size_bytes, s.after.size_bytes) for s in acted[2:]]
    assert sizes[0][0] is None and sizes[1][0] == sizes[0][1] < sizes[1][1]
    assert all(s.undone is None for s in candidate.steps) and candidate.techniques == ("a", "b")
    assert set(candidate.seconds) == {"train", "structure", "finalize", "export", "graph", "observe"}


def test_the_file_says_what_it_is(context: Context) -> None:
    candidate, _ = make(context)
    properties = {p.key: p.value for p in candidate.graph.metadata_props}
    assert properties["candidate"] == make_spec().key
    assert properties["classes"] == '["a", "b", "c", "d", "e"]'
    assert properties["input"] == "float32 in 0..1, [batch, 3, 16, 16]"


def test_a_draft_trains_nothing_and_is_as_large(context: Context) -> None:
    trained, _ = make(context, technique("a", structure=keep))
    (context.work_dir / "draft").mkdir()
    draft, asked = make(
        replace(context, trained=False, trainer=Recorder(), work_dir=context.work_dir / "draft"),
        technique("a", structure=keep),
    )
    assert asked == []
    assert draft.onnx_path.stat().st_size == trained.onnx_path.stat().st_size
    assert [n.op_type for n in draft.graph.graph.node] == [n.op_type for n in trained.graph.graph.node]


def test_the_network_follows_from_the_seed_and_leaves_the_random_state() -> None:
    state = torch.random.get_rng_state()
    models = (build_model(make_registry(), ARCH, toy_data(), seed) for seed in (0, 0, 1))
    first, again, other = (model.get_parameter("1.0.weight") for model in models)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_technique_that_breaks_its_contract_is_named(context: Context) -> None:
    def nothing(self: Technique, model: Any, config: Config, context: Context) -> None:
        return None

    def leave(self: Technique, model: Any, config: Config, context: Context) -> None:
        raise SystemExit(3)

    for stage in ("structure", "finalize", "graph"):
        with pytest.raises(NasEdgeError, match=rf"a\.{stage} returned NoneType, not"):
            make(context, technique("a", **{stage: nothing}))
    with pytest.raises(NasEdgeError, match=r"a\.structure called sys.exit\(3\)"):
        make(context, technique("a", structure=leave))


def test_a_technique_cannot_disturb_the_others(context: Context) -> None:
    def disturb(self: Technique, model: Any, config: Config, context: Context) -> Any:
        torch.manual_seed(99)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(7)
        return model

    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    make(context, technique("a", structure=disturb, finalize=disturb))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert torch.get_num_threads() == threads


def test_specs_of_other_versions_and_fields_are_refused() -> None:
    registry = make_registry(technique("a"))
    with pytest.raises(StudyMismatch, match="technique 'a' has version 1, the candidate was made with 2"):
        active_steps(registry, CandidateSpec(ARCH, (Step("a", 2, {}),)))
    with pytest.raises(InvalidCandidate, match="a: unknown field 'ammount'; its fields are amount"):
        active_steps(registry, CandidateSpec(ARCH, (Step("a", 1, {"ammount": 1}),)))
    with pytest.raises(StudyMismatch, match="search space 'tiny' has version 1, the candidate was made with 5"):
        build_model(registry, ArchSpec("tiny", 5, ARCH.params), toy_data(), 0)


@pytest.mark.parametrize(
    ("stages", "parts", "tuned"),
    [
        (("structure",), [40, 60], 20),  # 100 images: 40 before, 40 of recovery, 20 of fine-tuning
        (("objective",), [100], 20),
        (("objective", "finalize"), [40, 60], 20),
        (("graph",), [100], 0),
        ((), [100], 0),
    ],
)
def test_the_last_training_ends_in_joint_fine_tuning(
    stages: Sequence[str], parts: list[int], tuned: int, context: Context
) -> None:
    """Where a technique acts in training: it costs no images more."""
    trainer = ImageTrainer(context.data, TrainConfig(), 0)
    steps = [ActiveStep(technique("a", **dict.fromkeys(stages, keep)), Config())] if stages else []
    before, last = shares(steps, replace(context, trainer=trainer), TrainConfig(finetune_share=0.2))
    assert [n for n in (before, last.samples) if n] == parts
    assert last.trainer == replace(trainer, finetune_samples=tuned)
