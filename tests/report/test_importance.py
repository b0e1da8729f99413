"""Which decisions mattered, on studies where that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_edge.report import importance
from nas_edge.report.importance import importances

from .made import empty_study, made_study


def test_what_sets_the_latency_comes_first(tmp_path: Path) -> None:
    stored = made_study(tmp_path, 200, finals=False).snapshot()
    found = importances(stored)
    assert found is not None
    assert found.trials == found.known == 120
    assert sum(found.latency_ms.values()) == pytest.approx(1)
    assert {*list(found.latency_ms)[:2]} == {"mobilenet.width", "mobilenet.depth"}
    assert list(found.latency_ms.values()) == sorted(found.latency_ms.values(), reverse=True)


def test_so_many_trials_are_looked_at_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "MOST_TRIALS", 30)
    found = importances(made_study(tmp_path, 100, finals=False).snapshot())
    assert found is not None
    assert (found.trials, found.known) == (30, 60)


def test_a_technique_that_was_undone_counts_as_off(tmp_path: Path) -> None:
    stored = made_study(tmp_path, 100, finals=False)
    trials = stored.with_params(stored.evaluated())
    seen = importance._study(trials).get_trials(deepcopy=False)
    undone = [(t, s) for t, s in zip(trials, seen, strict=True) if "prune" in t.user_attrs.get("undone", [])]
    assert undone
    for trial, shown in undone:
        assert trial.params["prune.enabled"] is True and "prune.ratio" in trial.params
        assert shown.params["prune.enabled"] is False and "prune.ratio" not in shown.params


def test_few_candidates_say_nothing(tmp_path: Path) -> None:
    assert importances(empty_study(tmp_path / "none")) is None
    assert importances(made_study(tmp_path / "few", 30, finals=False)) is None  # 18 of them are evaluated
