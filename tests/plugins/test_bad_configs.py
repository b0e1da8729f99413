"""Every field is checked, before anything is trained; what the refusals must say is in the conformance kit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from nas_edge import Context, InvalidCandidate, Technique, UserError
from nas_edge.engine.checking import check_choices
from nas_edge.engine.choices import Choices
from nas_edge_plugins.distill import Distill, DistillConfig
from nas_edge_spaces.mobilenet import MobileNetSpace

from .all_techniques import TECHNIQUES
from .bad_configs import BAD
from .toys import CHANNELS, CLASSES, SIDE

CASES = [(name, field, value) for name, fields in BAD.items() for field, values in fields.items() for value in values]


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: t.name)
def test_every_field_is_checked(technique: Technique) -> None:
    assert BAD[technique.name].keys() == technique.config_to_json(technique.config_type()).keys()


@pytest.mark.parametrize(("technique", "field", "value"), CASES[::5])
def test_the_command_line_refuses_it_before_anything_is_trained(technique: str, field: str, value: object) -> None:
    with pytest.raises(UserError) as caught:
        check_choices(Choices.of({f"{technique}.{field}": value}), MobileNetSpace(), TECHNIQUES)
    message = str(caught.value)
    assert message.startswith(f"set {technique}.{field}: {value!r} will not do: {technique}: {field}=")


@pytest.mark.parametrize("method", ["outputs", "features", "attention", "relations"])
def test_a_teacher_of_other_classes_is_refused(method: str, context: Context) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIDE * SIDE, CLASSES + 2))
    with pytest.raises(InvalidCandidate) as caught:
        Distill().objective(DistillConfig(method=method), replace(context, teacher=teacher))
    assert str(caught.value) == (
        "distill: teacher has 7 classes but the data has 5; train a teacher on this data, or leave distill out"
    )
    assert teacher(torch.zeros(1, CHANNELS, SIDE, SIDE)).shape == (1, 7)


def test_a_teacher_that_is_missing_is_refused(context: Context) -> None:
    with pytest.raises(InvalidCandidate, match=r"distill: teacher=None.*use method='online'"):
        Distill().objective(DistillConfig(), context)
