"""The mobilenet space as a whole: sampling, input sizes, costs, determinism, errors."""

from __future__ import annotations

import copy
import json
import pickle
import statistics
from collections.abc import Callable
from typing import Any

import optuna
import pytest
import torch

from nas_edge import ArchSpec, CandidateSpec, InvalidCandidate, Scope
from nas_edge.plugins import load_plugins
from nas_edge_spaces.mobilenet import architecture

from .networks import CLASSES, SPACE, build, images, mmacs, params, sample

SCALES = architecture.INPUT_SCALES.values()


def test_is_registered_through_its_entry_point() -> None:
    assert type(load_plugins().search_spaces["mobilenet"]) is type(SPACE)


def test_a_trial_takes_some_two_dozen_decisions() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    decisions = []
    for _ in range(50):
        trial = study.ask()
        sampled = SPACE.suggest(Scope(trial, "mobilenet"))
        architecture.Architecture.from_params(sampled)
        decisions.append(len(trial.params))
    assert min(decisions) >= 17
    assert max(decisions) <= 33
    assert 20 <= statistics.mean(decisions) <= 30


def test_the_key_of_a_candidate_depends_on_its_parameters_alone() -> None:
    def key(of: dict[str, Any]) -> str:
        return CandidateSpec(ArchSpec("mobilenet", SPACE.version, of)).key

    of = sample(1, seed=3)[0]
    shuffled = dict(reversed(json.loads(json.dumps(of)).items()))
    assert key(shuffled) == key(of)
    assert key(of | {"width_multiplier": 0.25}) != key(of)
    assert len({key(p) for p in sample(50, seed=4)}) == 50


def test_every_scale_gives_another_resolution_at_every_native_size() -> None:
    for native in range(8, 225):
        sizes = [SPACE.input_size(params() | {"input_scale": scale}, native) for scale in SCALES]
        assert sizes == sorted(set(sizes)), native
        assert sizes[0] >= 6, native
        assert sizes[-1] <= 224, native
    assert [SPACE.input_size(params() | {"input_scale": s}, 28) for s in SCALES] == [20, 28, 36]
    assert [SPACE.input_size(params() | {"input_scale": s}, 8) for s in SCALES] == [6, 8, 10]
    assert [SPACE.input_size(params() | {"input_scale": s}, 224) for s in SCALES] == [134, 180, 224]


def test_scale_one_needs_no_resize_except_at_the_ends() -> None:
    assert all(architecture.input_size(1.0, native) == native for native in range(8, 180))


@pytest.mark.parametrize("resolution", [6, 8, 12, 28, 32, 48, 64, 96, 128, 224])
def test_each_stride_halves_the_map_at_every_resolution(resolution: int) -> None:
    model = build(params(-1, stride=2, depth=1, attention="none", block="separable"), 1, resolution).eval()
    sides: list[int] = []
    with torch.inference_mode():
        x = images(1, 1, resolution)
        for name, child in model.named_children():
            if name == "head":
                break
            x = child(x)
            sides.append(x.shape[-1])
    assert sides[0] == sides[1] >= min(resolution, 8)
    assert sides[2:] == [-(-sides[0] // 2), -(-sides[0] // 4), -(-sides[0] // 8)]


@pytest.mark.parametrize("native", [8, 9, 16, 23, 24, 28, 47, 48, 95, 96, 150, 224])
def test_a_larger_input_is_never_reduced_to_a_smaller_map(native: int) -> None:
    sides = []
    for scale in SCALES:
        size = architecture.input_size(scale, native)
        sides.append(size / 2 ** architecture.stem_reductions(size, scale))
    assert sides == sorted(set(sides))
    assert sides[0] >= 6


def test_random_candidates_are_cheap_on_small_images(record_property: Callable[[str, object], None]) -> None:
    costs = []
    for of in sample(30, seed=5):
        size = SPACE.input_size(of, 28)
        costs.append(mmacs(build(of, 1, size), 1, size))
    deciles = statistics.quantiles(costs, n=10)
    record_property("mmacs_deciles_28px", [round(d, 2) for d in deciles])
    assert deciles[0] > 0.3
    assert 1 < statistics.median(costs) < 6
    assert deciles[6] < 10


def test_the_largest_is_a_teacher_that_a_cpu_can_train() -> None:
    largest = SPACE.largest()
    assert 6 < mmacs(build(largest, 1, SPACE.input_size(largest, 28)), 1, 28) < 15
    assert 3 < mmacs(build(largest, 1, SPACE.input_size(largest, 8)), 1, 8) < 10


def test_building_is_deterministic_and_the_module_copies_and_pickles() -> None:
    of, x = params(-1), images(2, 3, 16)
    model = build(of, 3, 16, seed=7).eval()
    copies = [build(of, 3, 16, seed=7).eval(), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    with torch.inference_mode():
        expected = model(x)
        assert expected.shape == (2, CLASSES)
        assert all(torch.equal(other(x), expected) for other in copies)
        assert not torch.equal(build(of, 3, 16, seed=8).eval()(x), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "gelu"}, "activation is 'gelu'; give one of relu, relu6, hard_swish"),
        ({"width_multiplier": 3}, "width_multiplier is 3; give one of 0.5, 0.75, 1.0"),
        ({"stem": {"width": 16}}, "stem: parameter 'kernel' is missing; add it"),
        ({"stem": 16}, "stem is 16; give a mapping with width, kernel"),
        ({"depth": 2}, "mobilenet: parameter 'depth' does not apply here; remove it"),
        ({"stages": []}, r"stages is \[\]; give a list of 2 to 4 stages"),
        ({"stages": [{"depth": 1}, 2]}, "stage1: parameter 'attention' is missing; add it"),
    ],
)
def test_wrong_parameters_are_refused_by_name_and_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCandidate, match=message):
        build(params() | change, 1, 28)


def test_parameters_that_are_not_active_are_refused() -> None:
    for index, name, value in ((0, "stride", 2), (1, "expansion", 4)):
        of = params(block="separable")
        of["stages"][index][name] = value
        with pytest.raises(InvalidCandidate, match=f"stage{index + 1}: parameter '{name}' does not apply"):
            build(of, 1, 28)


def test_images_under_six_pixels_are_refused() -> None:
    with pytest.raises(InvalidCandidate, match="resolution is 5 pixels; mobilenet needs at least 6"):
        build(params(), 1, 5)
