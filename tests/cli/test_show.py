"""`nas-edge show` with filters and sorting."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nas_edge.cli import main
from nas_edge.report.front import front_rows, trial_rows
from nas_edge.report.selection import Selection, State
from nas_edge.store.study import StoredStudy

from ..report.made import made_study

TRIALS = 40


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredStudy:
    return made_study(tmp_path_factory.mktemp("made"), TRIALS)


def shown(stored: StoredStudy, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    assert main(["show", str(stored.folder), "--json", *flags]) == 0
    value = json.loads(capsys.readouterr().out)
    assert isinstance(value, dict)
    return value


def test_conditions_hold_for_the_front_and_the_trials(stored: StoredStudy, capsys: pytest.CaptureFixture[str]) -> None:
    median = sorted(row.latency_ms for row in front_rows(stored))[len(front_rows(stored)) // 2]
    found = shown(stored, capsys, "--where", f"latency_ms <= {median} and accuracy > 0.5")
    expected = [row.number for row in front_rows(stored) if row.latency_ms <= median and row.accuracy > 0.5]
    assert [row["number"] for row in found["front"]] == expected and 0 < len(expected) < len(front_rows(stored))
    trials = [
        row["number"]
        for row in trial_rows(stored)
        if row["accuracy"] is not None and row["latency_ms"] <= median and row["accuracy"] > 0.5
    ]
    assert [row["number"] for row in found["trials"]] == trials and trials


def test_states_and_techniques(stored: StoredStudy, capsys: pytest.CaptureFixture[str]) -> None:
    everything = shown(stored, capsys)
    by_state = {state: shown(stored, capsys, "--state", state)["trials"] for state in State}
    assert sum(map(len, by_state.values())) == TRIALS == len(everything["trials"])
    assert {row["number"] % 10 for row in by_state[State.REJECTED]} == {3, 7}
    assert {row["number"] % 10 for row in by_state[State.FAILED]} == {9}
    both = shown(stored, capsys, "--technique", "quantize,distill")["trials"]
    assert both and all({"quantize", "distill"} <= {*row["techniques"].split(" + ")} for row in both)
    none = shown(stored, capsys, "--technique", "none", "--state", "finished")["trials"]
    assert none and {row["techniques"] for row in none} == {"none"}
    assert shown(stored, capsys, "--state", "failed")["front"] == []


def test_sorted_and_cut_what_is_not_known_comes_last(stored: StoredStudy, capsys: pytest.CaptureFixture[str]) -> None:
    rising = [row["latency_ms"] for row in shown(stored, capsys, "--sort", "latency_ms")["trials"]]
    known = [value for value in rising if value is not None]
    assert known == sorted(known) and rising[len(known) :] == [None] * (TRIALS - len(known)) != []
    falling = shown(stored, capsys, "--sort", "-accuracy", "--limit", "5")
    best = sorted((row["accuracy"] for row in trial_rows(stored) if row["accuracy"] is not None), reverse=True)
    assert [row["accuracy"] for row in falling["trials"]] == best[:5]
    assert [row["accuracy"] for row in falling["trials"]][:1] == [falling["front"][0]["accuracy"]]
    assert [row["number"] for row in shown(stored, capsys, "--sort", "-number")["trials"]] == [*range(TRIALS)][::-1]


def test_the_tables(stored: StoredStudy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder, front = str(stored.folder), front_rows(stored)
    assert main(["show", folder, "--limit", "2"]) == 0
    text = capsys.readouterr().out
    assert f"Pareto front: 2 of {len(front)}" in text and "why" not in text
    assert main(["show", folder, "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "Trials"
    rows = [line.split(maxsplit=6) for line in lines[2 : 2 + TRIALS]]
    assert [row[0] for row in rows] == [str(n) for n in range(TRIALS)]
    first, failed, refused = trial_rows(stored)[0], rows[9], rows[3]
    assert rows[0][1] == "finished" and rows[0][2] == f"{first['accuracy']:.2%}"
    assert failed[1:6] == ["failed", "-", "-", "-", "-"] and "the loss is not finite" in failed[6]
    assert refused[1] == "rejected" and "too slow before training" in refused[6]
    assert main(["show", folder, "--state", "running"]) == 0
    assert f"Trials: 0 of {TRIALS}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--where", "speed > 3"], "--where is 'speed > 3': 'speed > 3' is no condition; write FIGURE SIGN NUMBER"),
        (["--where", "test_accuracy > 0.9"], "with a figure of number, accuracy, latency_ms, measured_ms, size_bytes"),
        (["--sort", "latency"], "unknown figure to --sort by 'latency'; did you mean 'latency_ms'?"),
        (["--technique", "quantise"], "unknown technique in this study 'quantise'; did you mean 'quantize'?"),
        (["--state", "done"], "'done' is not one of 'finished', 'rejected'"),
        (["--limit", "0"], "Input should be greater than or equal to 1 (it is '0')"),
        (["3", "--sort", "number"], "trial 3 is asked for, and others too; leave out its number, or the filters"),
    ],
)
def test_mistakes(flags: list[str], reason: str, stored: StoredStudy, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(stored.folder), *flags]) == 2
    assert reason in capsys.readouterr().err


def test_equal_figures_keep_their_order() -> None:
    rows = [{"number": n, "accuracy": 0.5, "techniques": "none"} for n in (2, 0, 1)]
    for sort in ("accuracy", "-accuracy"):
        assert [row["number"] for row in Selection(sort=sort).of(rows, dict)] == [2, 0, 1]
