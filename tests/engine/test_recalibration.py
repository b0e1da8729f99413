"""A profile whose real error leaves the stated one is replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas_edge import MeasurementError
from nas_edge.cli import main
from nas_edge.config import StudyConfig
from nas_edge.engine.progress import Progress
from nas_edge.engine.run import run_search
from nas_edge.engine.session import Session
from nas_edge.plugins import Registry
from nas_edge.report.audit import latency_audit
from nas_edge.report.front import front_rows, trial_rows
from nas_edge.store.locate import locate

from ..studies import Said, found, search, tiny_config
from .devices import Board, Device, Hearing, off_front


def test_a_device_that_slows_down_is_calibrated_again(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, heard = Board(), Hearing()
    tiny.targets["board"] = lambda address: board
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def config(trials: int, audit_trials: int) -> StudyConfig:
        return tiny_config(
            tmp_path / "study", target="board", trials=trials, audit_trials=audit_trials, calibration_seconds=5.0
        )

    stored = run_search(config(8, 0), heard)
    assert "calibrated on" in heard.results[0]
    before = found(stored)
    board.speed = 0.5
    stored = run_search(config(12, 8), heard)
    assert found(stored)[:8] == before  # what samplers were told stays
    audit = latency_audit(stored)
    assert audit is not None
    (earlier,) = audit["earlier"]
    assert earlier["profile"] != audit["profile"]
    assert earlier["median"] == pytest.approx(0.5, abs=0.1) and audit["median"] < 0.2
    assert [m["trial"] for m in earlier["models"]] == [m["trial"] for m in audit["models"]]
    assert earlier["audited"] == audit["audited"] == min(8, len(off_front(stored)))
    assert "calibrated again: " in heard.results[-1] and f"was {earlier['median']:.1%}" in heard.results[-1]

    for row, trial in zip(trial_rows(stored), stored.trials(), strict=True):
        assert row["latency_ms"] == trial.values[1]
        assert row["repredicted_ms"] == pytest.approx(2 * trial.values[1], rel=0.4)
    assert all(row.repredicted_ms is not None for row in front_rows(stored))
    assert main(["show", str(tmp_path / "study")]) == 0

    # The new profile is the one of later sessions, here and in other studies, and is not doubted without new trials.
    said, measured = len(heard.results), list(board.measured)
    stored = run_search(config(12, 8), heard)
    assert (len(heard.results), board.measured) == (said, measured)
    session = Session.open(config(12, 8), tiny)
    session.ensure_profile(stored, Progress())
    assert session.predictions is not None and session.predictions.key == audit["profile"]
    other = run_search(tiny_config(tmp_path / "other", target="board", trials=1, audit_trials=0), heard)
    assert len(heard.results) == said and other.finished() == 1


def test_an_interrupted_recalibration_is_made_up_for(
    device: Device, tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.factors = [2.0]
    config = tiny_config(tmp_path, trials=10, audit_trials=4)
    moments: list[str] = []

    def calibrate(self: Session, budget_s: float, progress: Progress) -> Any:
        moments.append("began")
        if len(moments) == 1:
            raise KeyboardInterrupt
        assert self.predictions is not None
        return replace(self.predictions.profile, reference_ms=7.0)

    monkeypatch.setattr(Session, "calibrate", calibrate)
    with pytest.raises(KeyboardInterrupt):
        search(config, tiny)
    measured = list(device.measured)
    assert not locate(str(tmp_path), None).tables.audits("tiny")
    heard = Hearing()
    stored = search(config, tiny, heard)
    assert moments == ["began"] * 2 and device.measured == measured
    audits = stored.tables.audits("tiny")
    assert [audit.sample for audit in audits] == [audits[0].sample] * 2 and len(audits[0].sample) == 4
    # The tiny plugin predicts whatever the profile is: then calibrating helps nothing, and that is said.
    assert "their median error was 50.0% and is 50.0%" in heard.results[-1]


def test_a_calibration_that_fails_leaves_the_profile(
    device: Device, tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.factors = [2.0]

    def calibrate(self: Session, budget_s: float, progress: Progress) -> Any:
        raise MeasurementError("too few networks")

    monkeypatch.setattr(Session, "calibrate", calibrate)
    said = Said()
    stored = search(tiny_config(tmp_path, trials=10, audit_trials=4), tiny, said)
    assert said.warnings == ["the predictions are worse than stated, but a new calibration failed: too few networks"]
    audit = latency_audit(stored)
    assert audit is not None and audit["median"] == pytest.approx(0.5) and not audit["earlier"]
