"""What stands in for the product in benchmarks is taken by it still."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.support.instant import Clock, instant
from nas_edge.engine import loop
from nas_edge.engine.session import Session
from nas_edge.plugins import Registry
from nas_edge.store.study import StoredStudy

from .studies import tiny_config


def test_the_loop_takes_the_evaluation_that_takes_no_time(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session.open(tiny_config(tmp_path, trials=3), tiny)
    stored, clock = StoredStudy.create_or_load(session.config, session.facts), Clock()
    monkeypatch.setattr(loop, "evaluate", instant)
    loop.run_trials(session, stored, clock)
    assert stored.finished() == 3 and len(clock.ends) == len(clock.cpu) >= 3
