"""The points of the picture: the front, and what lies behind it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from nas_edge.report import points as module
from nas_edge.report.front import front_rows
from nas_edge.report.points import FINISHED, FRONT, OVER, STOPPED, points, spread

from .made import made_study


def test_each_candidate_is_one_point_of_its_kind(tmp_path: Path) -> None:
    stored = made_study(tmp_path, max_latency_ms=0.15).snapshot()
    rows = front_rows(stored)
    found = points(stored, rows)
    kinds = Counter(c.kind for c in found.candidates)
    assert kinds[FRONT] == len(rows)
    assert kinds[STOPPED] == 12  # two of ten
    assert kinds[FRONT] + kinds[FINISHED] + kinds[OVER] == 36  # six of ten: repeats and failures are none
    assert found.known == 48
    for candidate in found.candidates:
        assert (candidate.kind == OVER) == (candidate.kind not in (FRONT, STOPPED) and candidate.latency_ms > 0.15)
        if candidate.kind == STOPPED:
            assert candidate.accuracy == (None if candidate.number % 10 == 3 else 0.6)


def test_latencies_are_those_known_best(tmp_path: Path) -> None:
    stored = made_study(tmp_path).snapshot()
    trials = {t.number: t for t in stored.trials()}
    sources: Counter[tuple[str, str]] = Counter()
    for c in points(stored, front_rows(stored)).candidates:
        if c.kind == STOPPED:
            continue
        sources[c.kind, c.source] += 1
        searched = trials[c.number].values[1]
        factor = 1.04 if c.kind == FRONT else 1.02 if c.source == "measured" else 1.0
        assert c.latency_ms == pytest.approx(factor * searched)
        assert c.low_ms is not None and c.high_ms is not None and c.low_ms < c.latency_ms < c.high_ms
    assert sources[FINISHED, "measured"] == 8
    assert sources[FINISHED, "predicted"] > 0


def test_of_many_candidates_some_are_drawn_and_the_front_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_POINTS", 10)
    stored = made_study(tmp_path).snapshot()
    rows = front_rows(stored)
    found = points(stored, rows)
    assert len(found.candidates) == len(rows) + 10
    assert found.known == 48


def test_items_are_evenly_spaced() -> None:
    assert spread(list(range(100)), 4) == [0, 25, 50, 75]
    assert spread([1, 2], 4) == [1, 2]
