"""docs/techniques.md says of each technique what the code says, and what it tells to type works."""

from __future__ import annotations

import itertools
import json
import random
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from nas_edge import InvalidCandidate, Scope, Technique
from nas_edge.config import StudyConfig, make_config
from nas_edge.contracts import STAGES
from nas_edge.engine.checking import check_choices
from nas_edge.engine.choices import Choices
from nas_edge.engine.ranges import DRAWS, Recorder, described
from nas_edge_spaces.mobilenet import MobileNetSpace

from .all_techniques import BY_NAME, TECHNIQUES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "techniques.md").read_text()
each = pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: t.name)


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without heads."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in lines if not row[0].startswith("---") and row[0] not in ("field", "technique")]


def section(name: str) -> str:
    """What stands under a heading of the page."""
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def test_the_sections_are_the_techniques_in_the_order_they_act() -> None:
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert [h for h in headings if h in BY_NAME] == [t.name for t in TECHNIQUES]


def test_the_overview_says_when_each_acts() -> None:
    overview = rows(PAGE.partition("\n## ")[0])
    expected = []
    for t in TECHNIQUES:
        stages = ", ".join(stage for stage in STAGES if t.overrides(stage))
        expected.append([f"[`{t.name}`](#{t.name})", stages, "yes" if t.by_default else "no", ", ".join(t.exclusive)])
    assert [[row[0], *row[2:]] for row in overview] == expected


@each
def test_the_fields_are_those_of_the_config(technique: Technique) -> None:
    table = rows(section(technique.name))
    assert [words(row[0]) for row in table] == [[f.name] for f in fields(technique.config_type)]
    assert [row[2] for row in table] == [f"`{written(f.default)}`" for f in fields(technique.config_type)]
    assert all(len(row) == 5 and row[4] for row in table)


@each
def test_the_choices_are_those_that_are_accepted(technique: Technique) -> None:
    for row in rows(section(technique.name)):
        field, listed = words(row[0])[0], words(row[1])
        for word in listed:
            value = json.loads(word) if word in ("true", "false") else word
            assert getattr(technique.config_from_json({field: value}), field) == value
        with pytest.raises(InvalidCandidate) as caught:
            technique.config_from_json({field: "no such word"})
        known = re.search(r"must be one of (.+?);", str(caught.value))
        if known:
            assert listed == re.findall(r"'([^']+)'", known[1])


@each
def test_what_is_sampled_is_what_a_search_draws(technique: Technique) -> None:
    recorder = Recorder(random.Random(0))
    for _ in range(DRAWS):
        technique.suggest(Scope(recorder, technique.name))
    drawn = {name.partition(".")[2]: described(seen).replace(" | ", ", ") for name, seen in recorder.seen.items()}
    assert {words(row[0])[0]: row[3] for row in rows(section(technique.name)) if row[3]} == drawn


def accepted(config: StudyConfig) -> list[Any]:
    """The choices of a config, held against the techniques it names."""
    techniques = [BY_NAME[name] for name in config.techniques or [] if name != "none"]
    check_choices(Choices.of(config.set), MobileNetSpace(), techniques, BY_NAME)
    return list(config.set)


def options_of(command: str) -> dict[str, Any]:
    given = shlex.split(command)
    pairs = list(itertools.pairwise(given))
    named = next(value for flag, value in pairs if flag == "--techniques")
    return {"techniques": named.split(","), "set": [value for flag, value in pairs if flag == "--set"] or None}


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.+?)```", PAGE, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("nas-edge")]


@pytest.mark.parametrize("command", commands())
def test_the_commands_are_accepted(command: str) -> None:
    options = options_of(command)
    assert len(accepted(make_config(None, options))) == len(options["set"] or [])


def test_the_study_file_is_accepted(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.+?)```", PAGE, re.DOTALL)
    file = tmp_path / "study.toml"
    file.write_text(block)
    assert "prune.criterion" in accepted(make_config(file, {}))


def test_the_readme_names_them_all() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("\n## Techniques\n")[2].partition("\n## ")[0]
    assert [words(row[0]) for row in rows(table)] == [[t.name] for t in TECHNIQUES]
    assert "docs/techniques.md" in table
