"""What is damaged is refused in one line with exit status 2, wherever it comes in.

`benchmarks/fuzzing.py` looks further. Each case that once ended in anything else stays here, as small as it got.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas_edge import agent
from nas_edge.plugins import load_plugins

from .fuzz.cases import HELLO, KINDS, LOADED, RECIPE, RECORD, REPLIES, REQUESTS, VISITED, Case, frame, sound_profile
from .fuzz.doors import REFUSED, Doors
from .fuzz.networks import SOUND, deep

SEARCH, SHOW = ("search", "case/study.toml"), ("show", "stored", "0")
PREDICT, MEASURE = ("predict", "case/model.onnx", "--target", "sound.json"), ("measure", "case/model.onnx")
WITH_PROFILE = ("predict", "sound.onnx", "--target", "case/profile.json")
REPLAYED = ("measure", "sound.onnx", "--target", "replayed", "--seconds", "0.1")


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    load_plugins.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_EDGE_LOAD_PLUGINS", "")
        patch.chdir(tmp_path_factory.mktemp("doors"))
        yield Doors()
    load_plugins.cache_clear()


def study(text: str) -> Case:
    return Case("study files", SEARCH, {"study.toml": text.encode()})


def profile(change: Callable[[dict[str, Any]], object]) -> Case:
    value = sound_profile().to_json()
    change(value)
    return Case("profiles", WITH_PROFILE, {"profile.json": json.dumps(value).encode()})


def recipe(content: bytes) -> Case:
    return Case("recipes", SHOW, {RECIPE: content})


def record(*path: str | int, to: object) -> Case:
    value = json.loads(json.dumps(RECORD))
    part = value
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = to
    return recipe(json.dumps(value).encode())


def model(change: Callable[[onnx.ModelProto], object], arguments: tuple[str, ...] = PREDICT) -> Case:
    made = onnx.ModelProto()
    made.CopyFrom(SOUND["mobile"])
    change(made)
    return Case("ONNX files", arguments, {"model.onnx": made.SerializeToString()})


def wide_groups(made: onnx.ModelProto) -> None:
    made.graph.initializer[0].dims[1] = 1_000  # input channels of the first convolution
    made.graph.initializer[0].raw_data = b"\0" * (4 * 1_000 * made.graph.initializer[0].dims[0] * 9)


def requests(*frames: bytes) -> Case:
    return Case("agent messages", (), {REQUESTS: b"".join(frames)})


def replies(*answers: dict[str, Any]) -> Case:
    content = b"".join(frame(json.dumps(answer).encode()) for answer in answers)
    return Case("agent messages", REPLAYED, {REPLIES: content})


LOADS = [{**LOADED, "id": number} for number in (1, 2, 3)]
CASES: dict[str, tuple[Case, str]] = {
    "a number of 5,000 digits": (study("trials = " + "9" * 5_000), "is not TOML: Exceeds the limit"),
    "a number of 400 digits": (study("timeout = 1" + "0" * 400), "holds a whole number of"),
    "a deep key": (study(".".join("a" * 5_000) + " = 1"), "dots in line 1"),
    "deep tables": (study(f"set.{'.'.join('a' * 100)} = 1"), "nested more than 32 levels deep"),
    "a null character": (study('out = "runs/a\\u0000b"'), "with a null character"),
    "a study name that leads elsewhere": (study('study = "../../x"'), "is not a study name"),
    "a long wrong name": (study(f'sampler = "{"x" * 50_000}"'), "unknown sampler"),
    "an escape sequence": (study('sampler = "\\u001b[2J"'), "\\x1b[2J"),
    "deep lists in --set": (
        Case("plugin configs", ("search", "--set", "prune.ratio=" + "[" * 3_000)),
        "must be a number above 0 and below 1; try 0.1 to 0.6",
    ),
    "a recipe that is no JSON": (recipe(b'{"spec": '), "is not JSON: Expecting value"),
    "a recipe that is no text": (recipe(b"\xff"), "is not UTF-8"),
    "a recipe that is a list": (recipe(b"[]"), "is no recipe"),
    "an empty recipe": (recipe(b"{}"), "is no recipe: it lacks 'spec'"),
    "a recipe without architecture": (record("spec", to={}), "is no recipe: it lacks 'arch'"),
    "steps that are a number": (record("spec", "steps", to=1), "is no recipe"),
    "an accuracy in words": (record("evaluation", "accuracy", to="good"), "accuracy is 'good'"),
    "figures of another name": (record("evaluation", "steps", 0, "before", to={"x": 1}), "unexpected keyword argument"),
    "corrections for other sizes": (
        profile(lambda v: next(iter(v["model"]["shapes"].values())).update(centres=[[1.0, 2.0]])),
        "calibrate again",
    ),
    "a price beyond all numbers": (
        profile(lambda v: v["model"].update(base_ms=10**400)),
        "holds a whole number of 1329 bits",
    ),
    "a model of nothing but levels": (
        Case("ONNX files", PREDICT, {"model.onnx": deep(20_000)}),
        "not an ONNX model",
    ),
    "groups that do not fit": (model(wide_groups), "not a sound ONNX graph"),
    "a negative opset": (model(lambda m: setattr(m.opset_import[0], "version", -1)), "not a sound ONNX model"),
    "a node without inputs": (model(lambda m: m.graph.node[-1].ClearField("input")), "not a sound ONNX model"),
    "weights cut off": (model(lambda m: m.graph.initializer[0].ClearField("raw_data"), MEASURE), "not a sound ONNX"),
    "a header of nothing but levels": (requests(frame(b"[" * 100_000)), "broken frame: the header is not JSON"),
    "an endless command": (
        requests(agent.pack({"command": "x" * (agent.HEADER_LIMIT - 40)})),
        "unknown command 'xxx",
    ),
    "a header that is cut off": (requests(frame(b"{}", length=9)), "the stream ended 7 of 9 bytes early"),
    "a length that is none": (requests(agent.pack({"bytes": -77})), "bytes is -77, not a length"),
    "a device of another kind": (replies({**HELLO, "affinity": "all"}), "affinity is 'all'"),
    "a model without an id": (replies(HELLO, {"ok": True, "run_ms": 1}), "its reply makes no sense: id"),
    "times in words": (replies(HELLO, *LOADS, {**VISITED, "wall_ms": "x"}), "wall_ms is 'x'"),
    "times that are none": (replies(HELLO, *LOADS, {**VISITED, "cpu_ms": [0]}), "cpu_ms.0 is '0'"),
    "a reference network that is refused": (
        replies(HELLO, *LOADS, {"ok": False}),
        "no longer runs the small",
    ),
    "packages that are none": (replies({"ok": False, "missing": 1}), "no reason given"),
    "a link that ends": (replies(HELLO, *LOADS), "it ended"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_input_is_refused_in_one_line(name: str, doors: Doors) -> None:
    case, reason = CASES[name]
    outcome = doors.enter(case)
    assert outcome.verdict == REFUSED, outcome.said[-2_000:]
    assert reason in outcome.said and len(outcome.said.splitlines()[-1]) < 3_000


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_comes_in_ends_well(kind: str, doors: Doors) -> None:
    @settings(max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=KINDS[kind].filter(lambda case: case.arguments[:1] != ("measure",) or REPLIES in case.files))
    def each(case: Case) -> None:
        outcome = doors.enter(case)
        assert outcome.fault is None, (outcome, case)

    each()


@settings(max_examples=50, derandomize=True, database=None, deadline=None)
@given(content=st.binary(max_size=200))
def test_a_case_is_written_and_read(content: bytes) -> None:
    """What the benchmark writes for a fault can be brought in again."""
    case = Case("recipes", SHOW, {RECIPE: content})
    assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case
