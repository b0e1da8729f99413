"""A candidate's key names it in every process, and specs survive JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from nas_edge.errors import unknown_name
from nas_edge.spec import ArchSpec, CandidateSpec, Step

SPEC = CandidateSpec(
    ArchSpec("mobilenet", 2, {"depth": 3, "stages": [{"kernel": 5, "width": 0.75}], "resolution": 28}),
    (Step("prune", 1, {"ratio": 0.3, "criterion": "l1"}), Step("quantize", 1, {})),
)
KEY = "import json,sys; from nas_edge import CandidateSpec; print(CandidateSpec.from_json(json.load(sys.stdin)).key)"


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_key_is_the_same_in_another_process(hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", KEY],
        input=json.dumps(SPEC.to_json()),
        env=environment,
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout.strip() == SPEC.key
    assert len(SPEC.key) == 16
    assert int(SPEC.key, 16) >= 0


def test_key_does_not_depend_on_the_order_of_parameters() -> None:
    arch = ArchSpec("mobilenet", 2, {"resolution": 28, "stages": [{"width": 0.75, "kernel": 5}], "depth": 3})
    steps = (Step("prune", 1, {"criterion": "l1", "ratio": 0.3}), Step("quantize", 1, {}))
    assert CandidateSpec(arch, steps).key == SPEC.key


def test_key_depends_on_all_that_changes_the_candidate() -> None:
    arch, (prune, quantize) = SPEC.arch, SPEC.steps
    others = [
        CandidateSpec(arch, (quantize, prune)),
        CandidateSpec(arch, (prune,)),
        CandidateSpec(arch, (Step("prune", 2, prune.config), quantize)),
        CandidateSpec(arch, (Step("prune", 1, {**prune.config, "ratio": 0.4}), quantize)),
        CandidateSpec(ArchSpec(arch.space, 3, arch.params), SPEC.steps),
        CandidateSpec(ArchSpec("other", 2, arch.params), SPEC.steps),
        CandidateSpec(ArchSpec(arch.space, 2, {**arch.params, "resolution": 32}), SPEC.steps),
    ]
    assert len({SPEC.key, *(spec.key for spec in others)}) == len(others) + 1


def test_json_round_trip() -> None:
    again = CandidateSpec.from_json(json.loads(json.dumps(SPEC.to_json())))
    assert again == SPEC
    assert again.key == SPEC.key


def test_a_number_that_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = CandidateSpec(ArchSpec("s", 1, {"width": float("nan")})).key


@pytest.mark.parametrize("value", [{}, {"arch": {"space": "s"}, "steps": []}, {"arch": None, "steps": []}])
def test_what_is_not_a_spec_is_refused(value: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError)):
        CandidateSpec.from_json(value)


def test_summary_names_the_techniques_in_order() -> None:
    assert SPEC.summary == "prune + quantize"
    assert CandidateSpec(SPEC.arch).summary == "none"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("quantise", "did you mean 'quantize'?"),
        ("Prune", "did you mean 'prune'?"),
        ("zzz", "known: distill, prune, quantize"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name: str, hint: str) -> None:
    error = unknown_name("technique", name, ["quantize", "prune", "distill"])
    assert str(error) == f"unknown technique {name!r}; {hint}"


def test_an_unknown_name_where_nothing_is_known() -> None:
    assert str(unknown_name("sampler", "tpe", [])) == "unknown sampler 'tpe'; known: none"
