"""Distillation: the loss in closed form, and who learns from it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from nas_edge import Context, InvalidCandidate, Scope
from nas_edge.engine.sample import RandomTrial
from nas_edge_plugins.distill import GUIDED, Distill, DistillConfig
from nas_edge_plugins.distill.softened import softened_divergence

from .toys import inputs, toy


def drawn_logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(16, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def closed_form(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    student_log, teacher_log = (log_softmax(t.numpy() / temperature, axis=1) for t in (student, teacher))
    divergence = (np.exp(teacher_log) * (teacher_log - student_log)).sum(1).mean()
    return float(temperature**2 * divergence)


@pytest.mark.parametrize("temperature", [1.0, 2.5, 6.0])
def test_the_loss_is_the_closed_form(temperature: float) -> None:
    student, teacher = drawn_logits(0), drawn_logits(1)
    found = float(softened_divergence(student, teacher, temperature))
    assert found == pytest.approx(closed_form(student, teacher, temperature), rel=1e-9)


def test_no_loss_where_student_and_teacher_agree_up_to_a_constant() -> None:
    logits = drawn_logits(0)
    assert float(softened_divergence(logits + 7, logits, 3.0)) == pytest.approx(0, abs=1e-12)


def test_t_squared_keeps_the_gradient_at_high_temperature() -> None:
    """The limit of Hinton et al. 2015, equation 4: the difference of the centred logits over the classes."""
    student, teacher = drawn_logits(0).requires_grad_(), drawn_logits(1)
    (gradient,) = torch.autograd.grad(softened_divergence(student, teacher, 1e4), student)
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    torch.testing.assert_close(gradient * len(student), centred.detach() / 5, rtol=1e-3, atol=1e-4)


def test_only_the_student_learns(context: Context) -> None:
    teacher, student = toy("plain").train(), toy("depthwise")
    before = copy.deepcopy(teacher.state_dict())
    objective = Distill().objective(DistillConfig(2.0, 0.5), replace(context, teacher=teacher))
    assert objective is not None
    objective.prepare(student)
    x = inputs()
    loss = objective.loss(x, torch.zeros(8, dtype=torch.long), student(x))
    assert loss is not None
    loss.backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert list(objective.parameters()) == []
    expected = 0.5 * closed_form(student(x).detach(), teacher.eval()(x).detach(), 2.0)
    student.eval()
    again = objective.loss(x, torch.zeros(8, dtype=torch.long), student(x).detach())
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert again is not None
    assert not again.requires_grad


def test_the_student_comes_closer_to_the_teacher(context: Context) -> None:
    teacher = context.trainer.fit(toy("plain"), samples=640)
    given = replace(context, teacher=teacher)
    objective = Distill().objective(DistillConfig(2.0, 3.0), given)
    assert objective is not None
    alone = context.trainer.fit(toy("depthwise"), samples=640)
    taught = context.trainer.fit(toy("depthwise"), samples=640, objectives=[objective])
    x = context.data.validation.images.float() / 255
    with torch.no_grad():
        far, near = (softened_divergence(s(x), teacher(x), 2.0).item() for s in (alone, taught))
    assert near < 0.75 * far


def test_a_missing_or_wrong_teacher_is_refused(context: Context) -> None:
    with pytest.raises(InvalidCandidate, match="teacher=None"):
        Distill().objective(DistillConfig(), context)
    wrong = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 7))
    with pytest.raises(InvalidCandidate, match="teacher has 7 classes but the data has 5"):
        Distill().objective(DistillConfig(), replace(context, teacher=wrong))


def test_the_quick_pass_needs_no_teacher(context: Context) -> None:
    assert Distill().objective(DistillConfig(), replace(context, trained=False)) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "hints"}, "distill: method='hints' must be one of 'outputs', 'features'"),
        ({"method": "features", "method_weight": 0}, "distill: method_weight=0 must be a number above 0; try"),
        ({"method": "features", "depths": 0}, "distill: depths=0 must be a whole number of at least 1; try"),
        ({"method": "relations", "relation": "order"}, "distill: relation='order' must be one of 'distance_angle'"),
        ({"method": "online", "peers": 0}, "distill: peers=0 must be a whole number of at least 1; try"),
        ({"method": "online", "peer": "friend"}, "distill: peer='friend' must be one of 'student', 'teacher'"),
        ({"method": "outputs", "weight": 0}, "distill: weight=0 must be a number above 0; try"),
        ({"method": "online", "weight": 0}, "distill: weight=0 must be a number above 0; try"),
        ({"method": "features", "weight": -0.5}, "distill: weight=-0.5 must be a number above 0; try"),
    ],
)
def test_a_method_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCandidate) as caught:
        Distill().config_from_json(values)
    assert str(caught.value).startswith(message)


def test_the_outputs_may_be_left_out_beside_another_method() -> None:
    for method in GUIDED:
        assert Distill().config_from_json({"method": method, "weight": 0}).weight == 0


def test_a_search_samples_the_methods_that_cost_one_training() -> None:
    technique = Distill()
    drawn = [technique.suggest(Scope(RandomTrial(seed), "distill")) for seed in range(40)]
    assert {config.method for config in drawn} == {"outputs", *GUIDED}
    assert all(technique.needs_teacher_for(config) for config in drawn)
