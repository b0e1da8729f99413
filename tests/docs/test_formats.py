"""docs/formats.md lists the fields that the code has, with their types and defaults."""

from __future__ import annotations

import json
import re
import types
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from nas_edge import records
from nas_edge.config import StudyConfig, TrainConfig
from nas_edge.engine.early import RUNG
from nas_edge.engine.recipes import MODEL_FILE, RECIPE_FILE
from nas_edge.engine.supernets import CHECKPOINT_FILE, SUPERNET_FILE
from nas_edge.engine.teachers import TEACHER_FILE
from nas_edge.engine.zero_cost import SCORES
from nas_edge.goals import Goals
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.profile import VERSION, Profile
from nas_edge.plugins import Registry
from nas_edge.report.export import export_trial
from nas_edge.samplers.history import PARTIAL, UNDONE
from nas_edge.store.marks import worker_mark
from nas_edge.store.places import ARTIFACTS
from nas_edge.store.processes import WORKER
from nas_edge.store.schema import SCHEMA_VERSION, metadata
from nas_edge.store.study import REPEAT_OF, START
from nas_edge.targets.client import _Hello, _Loaded, _Visited
from nas_edge.targets.names import Named

from ..agents import agent_here
from ..studies import Said, search, tiny_config

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
WORDS = {int: "integer", float: "number", str: "text", bool: "boolean", type(None): "null", list: "list", tuple: "list"}
MODELS: dict[str, type[BaseModel]] = {"study.toml": StudyConfig, "`[train]`": TrainConfig, "`[goals]`": Goals}


def after(start: str) -> list[list[str]]:
    """The cells of the first table after a line that starts so."""
    rest = re.split(rf"^(?:#+ )?{re.escape(start)}.*$", PAGE, maxsplit=1, flags=re.MULTILINE)[1]
    table = re.search(r"^\|.*?\n(?=\n|\Z)", rest, re.MULTILINE | re.DOTALL)
    assert table is not None, f"no table after {start!r}"
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[0].splitlines()]
    return rows[1:] if start.startswith("|") else rows[2:]


def names(start: str) -> list[str]:
    return [name for row in after(start) for name in re.findall(r"`([^`]+)`", row[0])]


def in_words(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(in_words(part) for part in typing.get_args(kind))
    if origin is typing.Literal:
        return "text"
    return WORDS.get(kind) or WORDS.get(origin) or "object"


@pytest.mark.parametrize("start", MODELS)
def test_the_keys_of_a_study_file(start: str) -> None:
    model = MODELS[start]
    shown = {name: [row[1], row[2].strip("`")] for row in after(start) for name in re.findall(r"`([^`]+)`", row[0])}
    expected = {}
    for name, info in model.model_fields.items():
        default = "" if isinstance(info.default, TrainConfig) else json.dumps(info.default)
        expected[name] = [in_words(info.annotation), default]
    assert shown == expected


@pytest.mark.parametrize(
    "record",
    [
        records.Evaluation,
        records.StepRecord,
        records.Figures,
        records.Measurement,
        records.Prediction,
        records.LatencyAudit,
        records.Audited,
    ],
)
def test_the_fields_of_records(record: type) -> None:
    hints = typing.get_type_hints(record)
    expected = [(f"`{field.name}`", in_words(hints[field.name])) for field in fields(record)]
    assert [(row[0], row[1]) for row in after(record.__name__)] == expected


def test_the_keys_of_a_profile() -> None:
    made = Profile("local", {}, LatencyModel(0.1, {}), HeldOutError(0.1, 0.2, 0.5, 0.8, 9), 0.1, 1.0, 0.1).to_json()
    listed = {row[0].strip("`"): row[1] for row in after("Latency profile")}
    assert listed.keys() == made.keys()
    assert {name: in_words(type(made[name])) for name in listed} == listed
    assert after("Latency profile")[1][2] == str(VERSION) == str(made["version"])
    assert names("`error`, relative") == list(made["error"])
    assert names("`model`:") == list(made["model"])
    kernels = next(row for row in after("Prediction") if row[0] == "`kernels`")
    assert re.findall(r"`(\w+)`", kernels[2]) == [field.name for field in fields(records.Kernel)]


def test_our_tables() -> None:
    listed = {row[0].strip("`"): re.findall(r"`([^`]+)`", row[1]) for row in after("Our tables")}
    assert listed == {name: [column.name for column in table.columns] for name, table in metadata.tables.items()}
    assert f"`schema_version`: {SCHEMA_VERSION}" in PAGE


def test_the_frames_of_an_agent() -> None:
    hints = typing.get_type_hints(_Hello)
    assert [(row[0].strip("`"), row[1]) for row in after("What `hello` says")] == [
        (name, in_words(hints[name])) for name in _Hello.model_fields
    ]
    assert list(agent_here().hello()) == list(_Hello.model_fields)
    requests = {row[0].strip("`"): row[2] for row in after("Agent frames")}
    assert list(requests) == ["hello", "load", "visit", "unload", "quit"]
    assert all(f"`{name}`" in requests["load"] for name in _Loaded.model_fields)
    assert all(f"`{name}`" in requests["visit"] for name in _Visited.model_fields)
    assert names("Named targets") == [field.name for field in fields(Named)]


def test_what_a_study_and_its_export_hold(tiny: Registry, tmp_path: Path) -> None:
    """Of a real search: each attribute, each artifact, and each file is on the page."""
    stored = search(tiny_config(tmp_path / "tiny", trials=2, techniques=["distill"]), tiny)
    assert stored.study.user_attrs.keys() <= set(names("Attributes of a study"))
    used = {name for trial in stored.trials() for name in trial.user_attrs}
    assert used <= set(names("Attributes of a trial"))
    number = stored.front()[0].number
    exported = tmp_path / "out"
    export_trial(stored, number, exported, Said())
    recipe = json.loads((exported / "recipe.json").read_text())
    assert set(names("recipe.json")) <= recipe.keys()
    assert set(names("Evaluation")) | {"test_accuracy"} == recipe["evaluation"].keys()
    study_row = next(row for row in after("recipe.json") if row[0] == "`study`")
    assert set(re.findall(r"`(\w+)`", study_row[2])) <= recipe["study"].keys()
    text = (exported / "card.md").read_text()
    assert [row[0] for row in after("card.md") if f"| {row[0]} |" not in text] == []


def test_the_folder_of_a_study_is_described() -> None:
    artifacts, files = names("| artifact | of"), names("| file in `runs/NAME`")
    assert {MODEL_FILE, RECIPE_FILE, SUPERNET_FILE, TEACHER_FILE} <= set(artifacts)
    assert {CHECKPOINT_FILE, f"{ARTIFACTS}/"} <= set(files)
    listed = names("Attributes of a trial")
    assert {f"{RUNG}25%", f"{RUNG}50%", SCORES, PARTIAL, UNDONE, WORKER, REPEAT_OF, START} <= set(listed)
    worker = next(row for row in after("Attributes of a trial") if row[0] == "`worker`")
    assert re.findall(r"`(\w+)`", worker[1]) == list(worker_mark())
