"""A search checks its own predictions, and calibrates again where they are worse than stated."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from nas_edge import Measurement, MeasurementError, Prediction, Target, hookimpl
from nas_edge.cli import main
from nas_edge.engine import run
from nas_edge.plugins import Registry
from nas_edge.report.audit import latency_audit
from nas_edge.store.study import StoredStudy

from ..studies import Said, found, opened, search, tiny_config
from .devices import MS_A_BYTE, Device, Hearing, off_front


def hand_computed(stored: StoredStudy, device: Device, numbers: Sequence[int]) -> list[float]:
    trials = [stored.trial(n) for n in numbers]
    return [abs(t.values[1] / device.ms[t.user_attrs["onnx_sha256"]] - 1) for t in trials]


@pytest.mark.usefixtures("no_calibration")
def test_a_search_reports_the_error_that_it_really_had(device: Device, tiny: Registry, tmp_path: Path) -> None:
    heard = Hearing()
    stored = search(tiny_config(tmp_path, trials=10, audit_trials=4), tiny, heard)
    audit = latency_audit(stored)
    assert audit is not None
    numbers = [m["trial"] for m in audit["models"]]
    assert len(set(numbers)) == 4 and set(numbers) <= {t.number for t in off_front(stored)}
    errors = hand_computed(stored, device, numbers)
    assert [m["error"] for m in audit["models"]] == pytest.approx(errors)
    assert audit["audited"] == 4
    assert audit["median"] == pytest.approx(np.median(errors))
    assert audit["q90"] == pytest.approx(np.quantile(errors, 0.9))
    assert audit["above_stated_q90"] == sum(e > 0.02 for e in errors)
    assert audit["stated"] == {"median": 0.01, "q90": 0.02, "networks": 8}
    assert audit["front"]["audited"] == len(stored.front())
    assert audit["front"]["median"] == pytest.approx(
        np.median(hand_computed(stored, device, [t.number for t in stored.front()]))
    )
    assert audit["earlier"] == [] and audit["finished"] == 10
    assert len(device.measured) == len(set(device.measured)) == len(stored.front()) + 4
    (said,) = heard.results
    assert f"on 4 random trials: they err by {np.median(errors):.1%} (median)" in said
    assert "stated 1.0%, 2.0%" in said


@pytest.mark.usefixtures("no_calibration")
def test_unstable_measurements_are_named_and_left_out(device: Device, tiny: Registry, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, trials=10, audit_trials=4)
    heard = Hearing()
    device.factors = [9.0]
    device.unstable = set(range(100))
    stored = search(config, tiny, heard)
    audit = latency_audit(stored)
    assert audit is not None
    assert (audit["audited"], audit["median"], audit["kendall_tau"]) == (0, None, None)
    assert [m["trial"] for m in audit["unstable"]] == [m["trial"] for m in audit["models"]]
    assert {m["because"] for m in audit["unstable"]} == {"the clock moves; fix its frequency"}
    assert all(str(m["trial"]) in heard.results[0] for m in audit["unstable"])


@pytest.mark.usefixtures("no_calibration")
def test_a_resumed_audit_repeats_no_measurement(device: Device, tiny: Registry, tmp_path: Path) -> None:
    first = search(tiny_config(tmp_path, trials=8, audit_trials=3), tiny)
    measured, audits = list(device.measured), first.tables.audits("tiny")
    search(tiny_config(tmp_path, trials=8, audit_trials=3), tiny)
    assert device.measured == measured and first.tables.audits("tiny") == audits  # no trial was added
    stored = search(tiny_config(tmp_path, trials=14, audit_trials=3), tiny)
    assert len(set(device.measured)) == len(device.measured) > len(measured)
    audit = latency_audit(stored)
    assert audit is not None and audit["finished"] == 14
    assert audit["audited"] == len({m["trial"] for m in audit["models"]}) == 6
    assert audit["median"] == pytest.approx(
        np.median(hand_computed(stored, device, [m["trial"] for m in audit["models"]]))
    )


def test_audits_can_be_turned_off(device: Device, tiny: Registry, tmp_path: Path) -> None:
    stored = search(tiny_config(tmp_path, trials=5, audit_trials=0, audit_every=1), tiny)
    assert latency_audit(stored) is None and not stored.tables.audits("tiny")
    assert len(device.measured) == len(stored.front())


@pytest.mark.usefixtures("no_calibration")
@pytest.mark.parametrize("sampler", ["random", "small-nsga2"])
def test_audits_during_a_search_leave_its_trials_as_they_are(
    sampler: str, device: Device, tiny: Registry, tmp_path: Path
) -> None:
    values = {"sampler": sampler, "trials": 10, "audit_trials": 2}
    plain = search(tiny_config(tmp_path / "plain", **{**values, "audit_trials": 0}), tiny)
    stored = search(tiny_config(tmp_path / "audited", **values, audit_every=4), tiny)
    assert [audit.finished for audit in stored.tables.audits("tiny")] == [4, 8, 10]
    assert found(stored) == found(plain)
    for trials in (3, 7, 10):
        parts = search(tiny_config(tmp_path / "parts", **{**values, "trials": trials}, audit_every=2), tiny)
    assert [audit.finished for audit in parts.tables.audits("tiny")] == [2, 3, 5, 7, 9, 10]
    assert found(parts) == found(plain)


def test_nothing_is_measured_beside_the_training_of_others(
    device: Device, tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "siblings", lambda *arguments, **more: contextlib.nullcontext())
    stored = search(tiny_config(tmp_path, trials=6, audit_every=2, workers=2), tiny)
    assert [audit.finished for audit in stored.tables.audits("tiny")] == [6]


def test_a_target_that_fails_under_way_costs_a_warning(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = type(tiny.find("target", "bench")("bench"))
    calls: list[int] = []

    def measure_many(self: Target, models: Sequence[Path], budget_s: float) -> list[Measurement]:
        calls.append(len(models))
        if len(calls) == 1:
            raise MeasurementError("the link is down")
        return [self.measure(model, budget_s) for model in models]

    monkeypatch.setattr(bench, "measure_many", measure_many)
    said = Said()
    stored = search(tiny_config(tmp_path, trials=12, audit_every=6), tiny, said)
    assert stored.finished() == 12
    assert said.warnings == ["the predictions are not checked now: the link is down"]
    assert [audit.finished for audit in stored.tables.audits("tiny")] == [12]


def test_each_file_is_predicted_once_by_each_profile(tiny: Registry, tmp_path: Path) -> None:
    asked: list[int] = []

    class Counting:
        @hookimpl(tryfirst=True)
        def predict_latency(self, graph: Any, target: Target) -> Prediction:
            asked.append(graph.ByteSize())
            ms = MS_A_BYTE * graph.ByteSize()
            return Prediction(ms, 0.9 * ms, 1.1 * ms)

    tiny.hooks.register(Counting(), "counting")
    config = tiny_config(tmp_path, trials=8)
    stored = search(config, tiny)
    assert len(asked) == 8  # the audit and the front are answered from the table
    session, stored = opened(config, tiny)
    path = next((tmp_path / "models").iterdir())
    known = session.predict(path)
    assert known is not None and known.ms == pytest.approx(MS_A_BYTE * path.stat().st_size)
    assert len(asked) == 8
    assert session.predictions is not None
    session.use_profile(replace(session.predictions.profile, reference_ms=7.0), stored)
    assert session.predict(path) == known and len(asked) == 9
    assert session.predict(path) == known and len(asked) == 9


def test_show_tells_of_the_audit(
    device: Device, tiny: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = search(tiny_config(tmp_path, trials=8, audit_trials=3), tiny)
    assert main(["show", str(tmp_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    audit = latency_audit(stored)
    assert audit is not None and shown["latency_audit"] == audit
    rows = {row["number"]: row for row in shown["trials"]}
    for model in audit["models"]:
        assert rows[model["trial"]]["measured_ms"] == model["measured_ms"]
    assert main(["show", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert f"{audit['median']:.1%} median" in text and "3 random trials (stated: 1.0%, 2.0%)" in text


def test_a_database_from_before_audits_opens(
    device: Device, tiny: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = search(tiny_config(tmp_path, trials=6, audit_trials=0), tiny)
    config = stored.study.user_attrs["config"]
    older = {k: v for k, v in config.items() if not k.startswith("audit_")}
    stored.study.set_user_attr("config", older)
    with stored.storage.engine.begin() as connection:
        for table in ("nas_edge_predictions", "nas_edge_audits"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
    assert main(["show", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latency_audit"] is None
    again = search(tiny_config(tmp_path, trials=9), tiny)
    audit = latency_audit(again)
    assert audit is not None and audit["audited"] == min(8, len(off_front(again)))
    assert found(again)[:6] == found(stored)[:6]
