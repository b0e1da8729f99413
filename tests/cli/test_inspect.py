"""The commands that look around, as a user sees them."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nas_edge.cli.check import _view
from nas_edge.cli.inspect import parameters, summary
from nas_edge.contracts import Scope, SearchSpace
from nas_edge.engine.ranges import Recorder, described
from nas_edge.plugins import Registry, load_plugins
from nas_edge.testing.running import CheckResult

from ..studies import NAS_EDGE
from .command import environment, install, run, run_json


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an installed plugin that does not import."""
    install(tmp_path, "unimportable", "import no_such_library\n")
    return tmp_path


def test_plugins_lists_every_kind_with_its_origin() -> None:
    listed = run_json("plugins")
    assert set(listed) == {"techniques", "search_spaces", "targets", "samplers", "datasets", "broken"}
    assert listed["broken"] == []
    by_name = {row["name"]: row for row in listed["techniques"]}
    assert by_name["prune"]["plugin"] == "prune"
    assert by_name["prune"]["distribution"] == "nas-edge"
    assert by_name["prune"]["version"] >= 1
    assert by_name["prune"]["summary"]
    text = run("plugins").stdout
    for kind in ("techniques", "search_spaces", "targets", "samplers", "datasets"):
        assert all(row["name"] in text for row in listed[kind])
    assert "Every plugin works." in text


def test_plugins_shows_what_is_broken_and_why(site: Path) -> None:
    (broken,) = run_json("plugins", site=site)["broken"]
    assert broken["name"] == "unimportable"
    assert broken["distribution"] == "unimportable"
    assert broken["reason"] == "ModuleNotFoundError: No module named 'no_such_library'"
    assert "import no_such_library" in broken["traceback"]
    done = run("plugins", site=site)
    assert done.returncode == 0
    assert "unimportable (unimportable): ModuleNotFoundError" in done.stdout
    assert "import no_such_library" in done.stdout


def test_spaces_shows_parameters_with_ranges() -> None:
    (space,) = run_json("spaces", "mobilenet")["search_spaces"]
    names = [row["name"] for row in space["parameters"]]
    assert all(name.startswith("mobilenet.") for name in names)
    assert len(set(names)) == len(names)
    done = run("spaces", "mobilenet")
    assert done.returncode == 0
    for row in space["parameters"]:
        assert row["name"] in done.stdout
        assert described(row) in done.stdout


def test_an_unknown_space_suggests_the_nearest() -> None:
    done = run("spaces", "mobilnet")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: unknown search space 'mobilnet'; did you mean 'mobilenet'?\n"


def test_targets_describes_this_machine() -> None:
    listed = run_json("targets")
    assert "local" in {row["name"] for row in listed["targets"]}
    assert listed["problem"] is None
    assert listed["local"]["onnxruntime"]
    assert listed["local"]["threads"] == 1
    assert str(listed["local"]["cpu"]) in run("targets").stdout


class Conditional(SearchSpace):
    """A space with every kind of parameter, one of them conditional."""

    name = "conditional"

    def suggest(self, scope: Scope) -> dict[str, Any]:
        chosen: dict[str, Any] = {"deep": scope.suggest_categorical("deep", [True, False])}
        if chosen["deep"]:
            chosen["depth"] = scope.within("body").suggest_int("depth", 2, 8, step=2)
        chosen["width"] = scope.within("body").suggest_float("width", 0.25, 1.0, step=0.25)
        chosen["rate"] = scope.suggest_float("rate", 1e-4, 1e-1, log=True)
        return chosen


def test_parameters_are_found_by_sampling() -> None:
    registry = Registry(load_plugins().hooks, search_spaces={"conditional": Conditional()})
    found = parameters(registry, "conditional")
    assert [(row["name"], described(row), row["conditional"]) for row in found] == [
        ("conditional.deep", "True | False", False),
        ("conditional.rate", "0.0001 to 0.1, log", False),
        ("conditional.body.width", "0.25 to 1.0, step 0.25", False),
        ("conditional.body.depth", "2 to 8, step 2", True),
    ]


def test_the_recorder_draws_within_the_ranges() -> None:
    recorder = Recorder(random.Random(1))
    draws = [recorder.suggest_int("i", 2, 8, step=2) for _ in range(100)]
    assert set(draws) == {2, 4, 6, 8}
    stepped = [recorder.suggest_float("f", 0.0, 1.0, step=0.5) for _ in range(100)]
    assert set(stepped) == {0.0, 0.5, 1.0}
    assert all(0.1 <= recorder.suggest_float("g", 0.1, 0.2) <= 0.2 for _ in range(100))
    assert {recorder.suggest_categorical("c", "ab") for _ in range(100)} == {"a", "b"}
    assert recorder.counts == {"i": 100, "f": 100, "g": 100, "c": 100}


def test_summary_is_the_own_one_or_the_first_line_of_the_docstring() -> None:
    def factory() -> None:
        """Makes it.

        More.
        """

    class Bare(SearchSpace):
        pass

    assert summary(Conditional()) == "A space with every kind of parameter, one of them conditional."
    assert summary(factory) == "Makes it."
    assert summary(Bare()) == ""


CHECKED = """
from dataclasses import dataclass
from nas_edge import Target, hookimpl

class Clock(Target):
    name = "clock"

    def fingerprint(self):
        import time
        return {"time": time.time()}

    def measure(self, model, budget_s):
        raise OSError("no clock today")

@hookimpl
def register_targets(register):
    register("clock", lambda address: Clock())
"""


def test_a_plugin_is_checked(tmp_path: Path) -> None:
    install(tmp_path, "clock", CHECKED)
    done = run("plugins", "check", "clock", "--json", site=tmp_path)
    assert done.returncode == 2, done.stderr
    found = json.loads(done.stdout)
    assert found["plugin"] == "clock" and found["passed"] + found["failed"] + found["skipped"] == len(found["checks"])
    by_check = {(row["subject"], row["check"]): row for row in found["checks"]}
    unstable = by_check["target clock", "its fingerprint stays the same"]
    assert unstable["outcome"] == "failed" and "leave out what changes by itself" in unstable["message"]
    measured = by_check["target clock", "a measurement is sound"]
    assert measured["message"].startswith("clock.measure of a small network raised OSError: no clock today")
    assert by_check["plugin clock", "its import is quick"]["outcome"] == "passed"


def test_a_plugin_that_passes_is_shown_in_a_table() -> None:
    done = run("plugins", "check", "data")
    assert done.returncode == 0, done.stderr
    assert "its hooks are known" in done.stdout and "0 failed" in done.stdout


def test_what_was_skipped_says_why_once() -> None:
    rows = [("it reduces what it declares", "skipped", "it declares no effect"), ("it has a name", "passed", "")]
    rows += [(f"it composes with [{other}]", "skipped", "they decide the same") for other in ("qat", "quantize")]
    results = [CheckResult("test_x", "technique x", *row, 0.01) for row in rows]
    console = Console(width=100)
    with console.capture() as shown:
        console.print(_view(results, Counter(row[1] for row in rows)))
    assert shown.get().splitlines()[-7:] == [
        "skipped: it reduces what it declares",
        "  it declares no effect",
        "",
        "skipped: it composes with [qat], it composes with [quantize]",
        "  they decide the same",
        "",
        "1 passed, 0 failed, 3 skipped",
    ]


def test_the_kit_needs_pytest_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "pytest.py").write_text("raise ModuleNotFoundError('No module named pytest', name='pytest')\n")
    done = run("plugins", "check", "data", site=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: nas_edge.testing needs pytest; install it with: pip install 'nas-edge[testing]'\n"


def test_an_unknown_or_broken_plugin_is_not_checked(site: Path) -> None:
    assert run("plugins", "check", "prun").stderr == "error: unknown plugin 'prun'; did you mean 'prune'?\n"
    done = run("plugins", "check", "unimportable", site=site)
    assert done.returncode == 2 and done.stderr.startswith("error: plugin 'unimportable' is broken: ModuleNotFound")


def test_hook_calls_are_traced() -> None:
    done = subprocess.run(
        (*NAS_EDGE, "plugins", "--json"),
        capture_output=True,
        text=True,
        env={**environment(None), "NAS_EDGE_TRACE_PLUGINS": "1"},
    )
    assert json.loads(done.stdout)["broken"] == []
    lines = done.stderr.splitlines()
    assert all(re.fullmatch(r"trace: +\d+\.\d\d ms  \w+: \S.*", line) for line in lines), lines
    assert any(line.endswith("register_techniques: prune") for line in lines)
    assert run("plugins", "--json").stderr == ""
