"""Every variant can be switched on by name, with `--set` and in a study file, and reaches the candidate."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nas_edge.config import StudyConfig, make_config
from nas_edge.engine.checking import check_choices
from nas_edge.engine.choices import Choices
from nas_edge.engine.compress import compress_config
from nas_edge.engine.sample import RandomTrial, suggest_spec
from nas_edge_spaces.mobilenet import MobileNetSpace

from .all_techniques import BY_NAME

# By technique the fields that choose a variant: one at a time, or several as a mapping.
ALONE: dict[str, dict[str, list[Any]]] = {
    "sparsify": {
        "mode": ["threshold", "percentage", "sensitivity"],
        "score": ["abs", "square", "cube"],
        "scope": ["global", "layer", "relative"],
        "schedule": ["one_shot", "gradual"],
    },
    "prune": {
        "criterion": ["l1", "l2", "activation", "taylor"],
        "scope": ["global", "layer"],
        "round_to": [1, 16, "auto"],
        "schedule": ["one_shot", "iterative"],
    },
    "low_rank": {
        "method": ["svd", "spatial", "tucker2", "cp", "auto"],
        "cp_kernel": ["joint", "separable"],
        "rank_by": ["energy", "ratio", "latency"],
    },
    "quantize": {
        "scheme": ["static", "dynamic", "int16", "float16", "int4"],
        "granularity": ["tensor", "channel"],
        "ranges": ["minmax", "percentile", "entropy"],
        "activations": ["unsigned", "signed"],
        "weight_bits": [2, 3, 4, 8],
        "reduce_range": [True, False],
        "block_size": [16, 256],
        "float_layers": [2],
        "min_sqnr_db": [20.0],
        "equalize": [True],
        "bias_correction": [True],
    },
    "qat": {
        "weight_bits": [2, 4, 8],
        "edge_bits": [4],
        "steps": ["learned", "observed"],
        "batch_norm": ["live", "folded"],
        "reduce_range": [True, False],
    },
    "weight_codes": {
        "code": ["uniform", "codebook", "logarithmic", "ternary", "trained_ternary", "binary"],
        "granularity": ["channel", "tensor"],
        "assignments": ["trained", "fixed"],
    },
    "distill": {
        "method": ["outputs", "features", "attention", "relations", "online"],
        "relation": ["distance_angle", "distance", "angle", "similarity"],
        "peer": ["student", "teacher"],
        "peers": [3],
    },
}
TOGETHER: list[tuple[str, dict[str, Any]]] = [
    *(("weight_codes", {"code": "uniform", "bits": bits}) for bits in range(2, 9)),
    ("weight_codes", {"code": "codebook", "bits": 1}),
    ("quantize", {"scheme": "int16", "activation_bits": 16}),
    ("distill", {"method": "features", "weight": 0}),
]
TRAINING = [("precision", "bfloat16"), ("precision", "float16"), ("finetune_share", 0.2), ("recovery_share", 0.5)]
TEACHERS = ["largest", "torchvision:resnet18:weights.pt", "torchvision:resnet18", "nets:small"]


def variants() -> Iterator[tuple[str, dict[str, Any]]]:
    for technique, choices in ALONE.items():
        for field, values in choices.items():
            yield from ((technique, {field: value}) for value in values)
    yield from TOGETHER


def written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def in_a_file(folder: Path, text: str) -> StudyConfig:
    file = folder / "study.toml"
    file.write_text(text)
    return make_config(file, {})


def chosen(technique: str, config: StudyConfig) -> dict[str, Any]:
    """The config of a technique in a candidate of a study, once the study's check has let its choices pass."""
    techniques, choices = [BY_NAME[name] for name in config.techniques or ()], Choices.of(config.set)
    check_choices(choices, MobileNetSpace(), techniques, BY_NAME)
    (step,) = suggest_spec(RandomTrial(0), MobileNetSpace(), techniques, choices).steps
    assert step.technique == technique
    return dict(step.config)


@pytest.mark.parametrize(("technique", "fields"), list(variants()), ids=str)
def test_it_is_switched_on_by_name(technique: str, fields: dict[str, Any], tmp_path: Path) -> None:
    """From a search's command line, from a compression's, and from a file."""
    named = {f"{technique}.{field}": value for field, value in {"enabled": True, **fields}.items()}
    options = {"techniques": [technique], "set": [f"{name}={written(value)}" for name, value in named.items()]}
    rows = "\n".join(f"{name} = {json.dumps(value)}" for name, value in named.items())
    configs = (
        make_config(None, options),
        compress_config("torchvision:resnet18", options),
        in_a_file(tmp_path, f'techniques = ["{technique}"]\n[set]\n{rows}\n'),
    )
    for config in configs:
        found = chosen(technique, config)
        assert {field: found[field] for field in fields} == fields


def test_no_word_of_a_technique_is_left_out() -> None:
    """What a field takes as a word is a variant, and stands above."""
    for technique, field in itertools.chain.from_iterable(((t, f) for f in fs) for t, fs in ALONE.items()):
        with pytest.raises(Exception, match="must be") as caught:
            BY_NAME[technique].config_from_json({field: "no such word"})
        _, listed, words = str(caught.value).partition("must be one of ")
        if listed:
            assert {f"{value!r}" for value in ALONE[technique][field]} == set(words.partition(";")[0].split(", "))


@pytest.mark.parametrize(("field", "value"), TRAINING)
def test_so_are_the_options_of_the_training(field: str, value: Any, tmp_path: Path) -> None:
    options = {"set": [f"train.{field}={written(value)}", "prune.ratio=0.3"]}
    file = in_a_file(tmp_path, f"[train]\n{field} = {json.dumps(value)}\n[set]\nprune.ratio = 0.3\n")
    for config in (make_config(None, options), compress_config("torchvision:resnet18", options), file):
        assert getattr(config.train, field) == value
        assert config.set == {"prune.ratio": 0.3}


@pytest.mark.parametrize("teacher", TEACHERS)
def test_so_are_the_teachers(teacher: str, tmp_path: Path) -> None:
    for config in (make_config(None, {"teacher": teacher}), in_a_file(tmp_path, f"teacher = {json.dumps(teacher)}\n")):
        assert config.teacher == teacher
