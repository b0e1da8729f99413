"""Learning from inside a teacher, with the trainer that searches use."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_edge import Context, InvalidCandidate
from nas_edge.config import TrainConfig
from nas_edge.export import check_parity, export_onnx
from nas_edge.train.trainer import ImageTrainer
from nas_edge_plugins.distill import GUIDED, RELATIONS, Distill, DistillConfig
from nas_edge_plugins.distill.guided import Features, Guided
from nas_edge_plugins.distill.losses import attention_distance, relation_error, same_size
from nas_edge_plugins.distill.taps import Recorder, Tap, embedding, feature_maps
from nas_edge_plugins.low_rank import LowRank, LowRankConfig
from nas_edge_plugins.prune import Prune, PruneConfig

from .toys import CHANNELS, SIDE, TOYS, inputs, toy, toy_context, toy_data

SAMPLES = 1920


@dataclass
class Studio:
    """A trained teacher, and the student that was trained alone."""

    context: Context
    teacher: nn.Module
    student: str
    alone: nn.Module

    @classmethod
    def of(cls, work: Path, teacher: str, student: str) -> Studio:
        data = toy_data()
        trainer = ImageTrainer(data, TrainConfig(batch_size=32, device="cpu"), 0)
        trained = trainer.fit(toy(teacher), samples=SAMPLES)
        trained.zero_grad()
        context = replace(toy_context(work), trainer=trainer, teacher=trained)
        return cls(context, trained, student, trainer.fit(toy(student), samples=SAMPLES))

    def taught(self, config: DistillConfig) -> nn.Module:
        objective = guided(config, self.context)
        return self.context.trainer.fit(toy(self.student), samples=SAMPLES, objectives=[objective])


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio.of(tmp_path_factory.mktemp("work"), "plain", "depthwise")


def guided(config: DistillConfig, context: Context) -> Guided:
    objective = Distill().objective(config, context)
    assert isinstance(objective, Guided)
    return objective


def seen(model: nn.Module, taps: list[Tap], images: Tensor) -> list[Tensor]:
    recorder = Recorder(model, taps)
    with torch.no_grad():
        model(images)
    found = recorder.take()
    recorder.remove()
    return found


def deepest(model: nn.Module, studio: Studio) -> Tensor:
    """The last map on the validation images."""
    data = studio.context.data
    return seen(model, feature_maps(model, data.train.images[:1])[-1:], data.validation.images.float() / 255)[0]


def embeddings(model: nn.Module, studio: Studio) -> Tensor:
    data = studio.context.data
    return seen(model, [embedding(model, data.train.images[:1])], data.validation.images.float() / 255)[0]


def unexplained(student: Tensor, teacher: Tensor) -> float:
    """The share of the teacher's variance that the best linear map of the student's channels leaves."""
    x, y = (t.permute(0, 2, 3, 1).flatten(0, 2).double().numpy() for t in same_size(student, teacher))
    x, y = np.concatenate([x, np.ones((len(x), 1))], 1), y - y.mean(0)
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    return float(((x @ best - y) ** 2).sum() / (y**2).sum())


def test_features_bring_the_student_closer_to_the_teachers(tmp_path: Path) -> None:
    studio = Studio.of(tmp_path, "inverted_residual", "plain")
    taught = studio.taught(DistillConfig(weight=0, method="features", method_weight=10.0))
    teacher = deepest(studio.teacher, studio)
    far, near = (unexplained(deepest(model, studio), teacher) for model in (studio.alone, taught))
    assert near < 0.8 * far


def test_attention_brings_the_student_to_look_where_the_teacher_looks(tmp_path: Path) -> None:
    studio = Studio.of(tmp_path, "depthwise", "inverted_residual")
    taught = studio.taught(DistillConfig(weight=0, method="attention", method_weight=10.0))
    teacher = deepest(studio.teacher, studio)
    far, near = (float(attention_distance(deepest(m, studio), teacher)) for m in (studio.alone, taught))
    assert near < 0.75 * far


@pytest.mark.parametrize("relation", RELATIONS)
def test_relations_bring_the_student_to_arrange_samples_alike(relation: str, studio: Studio) -> None:
    taught = studio.taught(DistillConfig(weight=0, method="relations", relation=relation, method_weight=75.0))
    teacher = embeddings(studio.teacher, studio)
    far, near = (float(relation_error(embeddings(m, studio), teacher, relation)) for m in (studio.alone, taught))
    assert near < 0.7 * far


@pytest.mark.parametrize("method", GUIDED)
def test_the_loss_adds_both_parts_and_reaches_student_and_projections_only(method: str, studio: Studio) -> None:
    student, x, labels = toy("depthwise"), inputs(), torch.zeros(8, dtype=torch.long)
    values = []
    for weight, method_weight in ((1.0, 1.0), (0, 1.0), (0, 4.0)):
        objective = guided(DistillConfig(3.0, weight, method, method_weight), studio.context)
        model = copy.deepcopy(student)
        objective.prepare(model)
        values.append(objective.loss(x, labels, model(x)))
    both, alone, fourfold = (value.item() for value in values)
    assert fourfold == pytest.approx(4 * alone, rel=1e-4)
    outputs = Distill().objective(DistillConfig(3.0, 1.0), studio.context)
    assert outputs is not None
    softened = outputs.loss(x, labels, student(x))
    assert softened is not None
    assert both == pytest.approx(softened.item() + alone, rel=1e-4)
    values[-1].backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    classifier = {name for name, _ in model.named_parameters() if name.startswith("1.11.")}
    assert reached == dict(model.named_parameters()).keys() - classifier  # it comes after all that is compared
    projections = list(objective.parameters())
    assert bool(projections) == (method == "features")
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in projections)
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert all(p.grad is None for p in studio.teacher.parameters())


@pytest.mark.parametrize("method", GUIDED)
def test_nothing_stays_in_the_model(method: str, studio: Studio) -> None:
    student, before = toy("depthwise"), copy.deepcopy(toy("depthwise").state_dict())
    state = torch.get_rng_state()
    objective = guided(DistillConfig(method=method), studio.context)
    trained = studio.context.trainer.fit(student, samples=64, objectives=[objective])
    assert torch.equal(torch.get_rng_state(), state)
    for model in (student, trained, studio.teacher, objective.teacher):
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert repr(trained) == repr(student)
    assert trained.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    again = pickle.loads(pickle.dumps(copy.deepcopy(trained)))
    with torch.no_grad():
        assert torch.equal(again(inputs()), trained(inputs()))
    graph = export_onnx(trained, channels=CHANNELS, resolution=SIDE)
    assert check_parity(trained, graph, inputs(), 1e-4) < 1e-4


@pytest.mark.parametrize("name", TOYS)
def test_every_kind_of_network_learns_by_every_method(name: str, studio: Studio) -> None:
    """As it is, and after its channels were cut and its layers factored."""
    student: nn.Module = toy(name)
    cut = Prune().structure(student, PruneConfig(0.3, "layer", "l2", 4), studio.context)
    reshaped = LowRank().structure(cut, LowRankConfig(), studio.context)
    for model in (student, reshaped):
        for method in GUIDED:
            objective = guided(DistillConfig(method=method), studio.context)
            trained = studio.context.trainer.fit(model, samples=32, objectives=[objective])
            graph = export_onnx(trained, channels=CHANNELS, resolution=SIDE)
            assert check_parity(trained, graph, inputs(), 1e-4) < 1e-4


@pytest.mark.parametrize("method", GUIDED)
def test_one_seed_gives_the_same_weights(method: str, studio: Studio) -> None:
    """Also from an objective that has trained another network before."""
    objective = guided(DistillConfig(method=method), studio.context)
    fits = []
    for name in ("depthwise", "plain", "depthwise"):
        fits.append(studio.context.trainer.fit(toy(name), samples=64, objectives=[objective]).state_dict())
    assert all(torch.equal(value, fits[2][name]) for name, value in fits[0].items())


def test_a_training_that_fails_leaves_no_hooks(studio: Studio) -> None:
    objective = guided(DistillConfig(method="features"), studio.context)
    caught: list[nn.Module] = []

    class Fails(type(objective)):  # type: ignore[misc]
        def loss(self, *_: Tensor) -> Tensor:
            raise RuntimeError("no more")

        def prepare(self, model: nn.Module) -> None:
            super().prepare(model)
            caught.append(model)
            assert any(m._forward_hooks for m in model.modules())

    objective.__class__ = Fails
    with pytest.raises(RuntimeError, match="no more"):
        studio.context.trainer.fit(toy("depthwise"), samples=64, objectives=[objective])
    assert not any(m._forward_hooks for model in (*caught, objective.teacher) for m in model.modules())


def test_what_is_matched_is_noted(studio: Studio, tmp_path: Path) -> None:
    for config, expected in [
        (DistillConfig(method="features"), "distill, features: 1.8 [64x8x8] learns from 1.9 [64x2x2]"),
        (DistillConfig(method="relations"), "distill, relations: 1.11 [64] learns from 1.11 [256]"),
    ]:
        context = replace(studio.context, notes=[])
        guided(config, context).prepare(toy("depthwise"))
        assert context.notes == [expected]
    context = replace(studio.context, notes=[])
    guided(DistillConfig(method="attention", depths=2), context).prepare(toy("plain"))
    assert context.notes[0].count("learns from") == 2


def test_projections_fit_the_channels_of_each_pair(studio: Studio) -> None:
    objective = guided(DistillConfig(method="features"), replace(studio.context, teacher=toy("plain")))
    assert isinstance(objective, Features)
    student = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(5, 7, 3, 2, 1), nn.Flatten(), nn.Linear(7 * 16, 5))
    objective.prepare(student)
    assert [(p.in_channels, p.out_channels) for p in objective.projections] == [(5, 64), (7, 64)]


def test_half_precision_is_compared_in_floats(studio: Studio) -> None:
    for method in GUIDED:
        objective = guided(DistillConfig(method=method), studio.context)
        student = toy("depthwise")
        objective.prepare(student)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = student(inputs())
        loss = objective.loss(inputs(), torch.zeros(8, dtype=torch.long), outputs)
        assert loss.dtype == torch.float32
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())


@pytest.mark.parametrize("method", ["features", "attention"])
def test_a_student_without_maps_is_refused(method: str, studio: Studio) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 5))
    with pytest.raises(InvalidCandidate, match="use method='outputs' or 'relations'"):
        studio.context.trainer.fit(flat, samples=64, objectives=[guided(DistillConfig(method=method), studio.context)])
    related = guided(DistillConfig(method="relations"), studio.context)
    assert studio.context.trainer.fit(flat, samples=64, objectives=[related]) is not None
