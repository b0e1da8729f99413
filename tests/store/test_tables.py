"""Our own tables, in a real SQLite file that is opened anew to be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from nas_edge import Measurement
from nas_edge.store.database import open_storage
from nas_edge.store.tables import Tables


def reopened(path: Path) -> Tables:
    return Tables(open_storage(f"sqlite:///{path}", create=True).engine)


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
    Tables(storage.engine)
    added = set(sa.inspect(storage.engine).get_table_names()) - before
    assert added == {"nas_edge_meta", "nas_edge_calibrations", "nas_edge_measurements", "nas_edge_finals"}
