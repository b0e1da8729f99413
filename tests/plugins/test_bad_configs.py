"""A bad config is refused with the technique, the field, the value and a remedy."""

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

from .all_techniques import BY_NAME, TECHNIQUES
from .toys import CHANNELS, CLASSES, SIDE

BAD: dict[str, dict[str, list[object]]] = {
    "prune": {
        "ratio": [1.0, 0, float("nan"), "half", True],
        "scope": ["everywhere"],
        "criterion": ["l3", 2],
        "round_to": [0, 8.0, "best", True],
        "schedule": ["slow"],
        "steps": [1, 0, 2.0],
        "train_share": [0, -0.1],
        "importance_images": [0, 1.5],
    },
    "low_rank": {
        "energy": [1.0, 0.0, "all"],
        "rank_multiple": [0, -4, True],
        "method": ["qr"],
        "rank_by": ["size"],
        "ratio": [1.0, 0],
        "faster_by": [0, 1],
        "cp_kernel": ["square"],
        "check_latency": ["no", 0],
    },
    "sparsify": {
        "mode": ["random"],
        "sparsity": [1.0, 0],
        "threshold": [0, float("inf")],
        "score": ["l2"],
        "scope": ["everywhere"],
        "schedule": ["slow"],
        "sensitivity_images": [0],
        "depthwise": [1],
        "classifier": [None],
    },
    "qat": {
        "weight_bits": [1, 9, 4.0, "8", True],
        "edge_bits": [1, 16],
        "steps": ["fixed"],
        "batch_norm": ["frozen"],
        "calibration_images": [0],
    },
    "quantize": {
        "calibration_images": [0],
        "ranges": ["widest"],
        "percentile": [100.0, 50],
        "scheme": ["int2"],
        "weight_bits": [1, 9, 8.0],
        "activation_bits": [3, 4, 16, 8.0],
        "granularity": ["layer"],
        "activations": ["both"],
        "block_size": [24, 0, 32.0],
        "float_layers": [-1, 0.5],
        "min_sqnr_db": [-1, "high"],
        "equalize": ["yes", 1],
        "bias_correction": [0],
    },
    "weight_codes": {
        "code": ["huffman"],
        "bits": [0, 9, 4.0, True],
        "granularity": ["layer"],
        "ends": ["skip"],
        "depthwise": ["auto"],
        "initialisation": ["random"],
        "assignments": ["free"],
    },
    "distill": {
        "temperature": [0, float("inf")],
        "weight": [-1, 0],
        "method": ["hints"],
        "method_weight": [0],
        "depths": [0],
        "relation": ["cosine"],
        "peers": [0, 1.0],
        "peer": ["parent"],
    },
}
CASES = [(name, field, value) for name, fields in BAD.items() for field, values in fields.items() for value in values]
TOGETHER = [
    ("quantize", "weight_bits", {"scheme": "float16", "weight_bits": 4}),
    ("quantize", "weight_bits", {"scheme": "int4", "weight_bits": 4}),
    ("quantize", "activation_bits", {"scheme": "int16", "activation_bits": 8}),
    ("quantize", "activation_bits", {"scheme": "int4", "activation_bits": 8}),
    ("weight_codes", "bits", {"code": "ternary", "bits": 2}),
    ("weight_codes", "bits", {"code": "uniform", "bits": 1}),
    ("distill", "weight", {"method": "online", "weight": 0}),
]


def refusal(technique: str, config: dict[str, object]) -> str:
    with pytest.raises(InvalidCandidate) as caught:
        BY_NAME[technique].config_from_json(config)
    return str(caught.value)


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: t.name)
def test_every_field_is_checked(technique: Technique) -> None:
    assert BAD[technique.name].keys() == technique.config_to_json(technique.config_type()).keys()


@pytest.mark.parametrize(("technique", "field", "value"), CASES)
def test_a_bad_value_is_refused(technique: str, field: str, value: object) -> None:
    message = refusal(technique, {field: value})
    assert message.startswith(f"{technique}: {field}={value!r} must be ")
    remedy = message.partition(";")[2]
    assert "try " in remedy or "use " in remedy


@pytest.mark.parametrize(("technique", "field", "config"), TOGETHER)
def test_values_that_do_not_go_together_are_refused(technique: str, field: str, config: dict[str, object]) -> None:
    message = refusal(technique, config)
    assert message.startswith(f"{technique}: {field}={config[field]!r} must be ")
    assert "use " in message or "try " in message or "leave " in message


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: t.name)
def test_an_unknown_field_is_refused_with_those_there_are(technique: Technique) -> None:
    message = refusal(technique.name, {"amount": 1})
    assert message.startswith(f"{technique.name}: unknown field 'amount'; its fields are ")
    assert all(field in message for field in BAD[technique.name])


@pytest.mark.parametrize(("technique", "field", "value"), CASES[::5])
def test_the_command_line_refuses_it_before_anything_is_trained(technique: str, field: str, value: object) -> None:
    with pytest.raises(UserError) as caught:
        check_choices(Choices.of({f"{technique}.{field}": value}), MobileNetSpace(), TECHNIQUES)
    message = str(caught.value)
    assert message.startswith(f"--set {technique}.{field}: {value!r} will not do: {technique}: {field}=")


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
