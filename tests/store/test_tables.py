"""Our own tables, in a real SQLite file that is opened anew to be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from nas_edge import Kernel, Measurement, Prediction
from nas_edge.records import Audited, LatencyAudit
from nas_edge.store.database import open_storage
from nas_edge.store.rows import DatabaseRows
from nas_edge.store.tables import Tables


def reopened(path: Path) -> Tables:
    return Tables(open_storage(f"sqlite:///{path}", create=True).rows)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.db"


def test_calibrations_by_target_and_domain_the_newest_wins(path: Path) -> None:
    tables = reopened(path)
    tables.add_calibration("target", "domain", {"base_ms": 0.1})
    tables.add_calibration("target", "domain", {"base_ms": 0.2, "words": ["ü", None]})
    tables.add_calibration("target", "another", {"base_ms": 0.3})
    again = reopened(path)
    assert again.calibration("target", "domain") == {"base_ms": 0.2, "words": ["ü", None]}
    assert again.calibration("target", "another") == {"base_ms": 0.3}
    assert again.calibration("elsewhere", "domain") is None


def test_a_measurement_round_trips_and_is_replaced(path: Path) -> None:
    fingerprint = {"cpu": "one", "instruction_sets": ["avx2"], "threads": 1}
    first = Measurement(0.2, 0.3, 0.19, 0.21, 50, "local", fingerprint)
    second = Measurement(0.4, 0.5, 0.39, 0.41, 60, "local", fingerprint, "the clock moves; fix its frequency")
    tables = reopened(path)
    tables.add_measurement("a" * 64, "target", first)
    tables.add_measurement("b" * 64, "target", first)
    tables.add_measurement("a" * 64, "target", second)
    again = reopened(path)
    assert again.measurement("a" * 64, "target") == second
    assert again.measurement("b" * 64, "target") == first
    assert again.measurement("a" * 64, "elsewhere") is None


def test_measurements_of_a_target_by_file(path: Path) -> None:
    tables = reopened(path)
    measured = {name * 64: Measurement(0.2, 0.3, 0.19, 0.21, 50, "local") for name in "ab"}
    for name, measurement in measured.items():
        tables.add_measurement(name, "target", measurement)
    tables.add_measurement("c" * 64, "elsewhere", Measurement(0.4, 0.5, 0.39, 0.41, 60, "ssh"))
    assert reopened(path).measurements("target") == measured


def test_a_prediction_is_kept_by_file_target_and_profile(path: Path) -> None:
    full = Prediction(0.2, 0.18, 0.23, ("Mystery",), (Kernel("conv", "conv2d", 0.2, 900),))
    kept = Prediction(0.2, 0.18, 0.23, ("Mystery",))
    other = Prediction(0.1 + 0.2, 0.25, 0.4)
    tables = reopened(path)
    tables.add_prediction("a" * 64, "target", "old", full)
    tables.add_prediction("a" * 64, "target", "new", other)
    tables.add_prediction("a" * 64, "target", "old", other)  # as a second worker would: the first one stays
    again = reopened(path)
    assert again.prediction("a" * 64, "target", "old") == kept
    assert again.prediction("a" * 64, "target", "new") == other
    assert again.prediction("a" * 64, "elsewhere", "old") is None
    assert again.predictions("target", "old") == {"a" * 64: kept}
    assert again.predictions("target", "none") == {}


def test_audits_round_trip_in_their_order(path: Path) -> None:
    sample = (Audited(3, 0.2, 0.25), Audited(5, 0.2, 0.4, "the clock moves"))
    first = LatencyAudit(40, "old", 0.02, 0.05, 120, sample, (Audited(1, 0.1, 0.1),))
    second, third = LatencyAudit(40, "new", 0.03, 0.06, 130, sample), LatencyAudit(80, "new", 0.03, 0.06, 130, ())
    tables = reopened(path)
    tables.add_audits("one", [first, second])
    tables.add_audits("one", [third])
    again = reopened(path)
    assert again.audits("one") == [first, second, third]
    assert again.audits("two") == []


def test_finals_belong_to_their_study(path: Path) -> None:
    tables = reopened(path)
    tables.add_final("one", 3, {"test_accuracy": 0.5})
    tables.add_final("one", 3, {"test_accuracy": 0.75})
    tables.add_final("one", 10, {"test_accuracy": 0.25})
    tables.add_final("two", 3, {"test_accuracy": 0.125})
    again = reopened(path)
    assert again.finals("one") == {3: {"test_accuracy": 0.75}, 10: {"test_accuracy": 0.25}}
    assert again.finals("two") == {3: {"test_accuracy": 0.125}}
    assert again.finals("three") == {}


def test_our_tables_have_our_prefix(path: Path) -> None:
    storage = open_storage(f"sqlite:///{path}", create=True)
    before = set(sa.inspect(storage.engine).get_table_names())
    DatabaseRows(storage.engine)
    added = set(sa.inspect(storage.engine).get_table_names()) - before
    names = ("meta", "calibrations", "predictions", "measurements", "finals", "audits", "turns")
    assert added == {f"nas_edge_{name}" for name in names}
