"""Databases of earlier and later versions: upgraded after a backup, refused with what to do, or refused untouched."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

import nas_edge
from nas_edge import StorageError
from nas_edge.cli import main
from nas_edge.store import schema
from nas_edge.store.database import close_storages, open_storage
from nas_edge.store.rows import DatabaseRows
from nas_edge.store.schema import back_up, prepare_tables
from nas_edge.store.study import StoredStudy
from nas_edge.store.tables import Tables

from ..servers import DatabaseServer

RELEASED = Path(__file__).parent / "released"
RELEASES = sorted(path.stem for path in RELEASED.glob("*.sql"))


def restored(release: str, folder: Path) -> str:
    """The URL of a database that a release wrote: a search of the tiny plugin with five trials, as SQL."""
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        connection.executescript((RELEASED / f"{release}.sql").read_text())
    return f"sqlite:///{folder}/study.db"


def add_note(connection: sa.Connection) -> None:
    connection.execute(sa.text("ALTER TABLE nas_edge_finals ADD COLUMN note TEXT"))
    connection.execute(sa.text("UPDATE nas_edge_finals SET note = 'from version 1'"))


def add_note_and_fail(connection: sa.Connection) -> None:
    add_note(connection)
    connection.execute(sa.text("UPDATE nas_edge_nothing SET note = 1"))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if this were a version whose tables have one column more."""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 2)
    monkeypatch.setitem(schema.UPGRADES, 1, add_note)
    return monkeypatch


def notes(engine: sa.Engine) -> list[str] | None:
    """The column that `later` adds, and None where it was not added."""
    with engine.connect() as connection:
        if not any(c["name"] == "note" for c in sa.inspect(connection).get_columns("nas_edge_finals")):
            return None
        return list(connection.execute(sa.text("SELECT note FROM nas_edge_finals")).scalars())


def version(engine: sa.Engine) -> str:
    with engine.connect() as connection:
        return str(connection.execute(schema.VERSION).scalar_one())


def backups(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if ".backup" in path.name)


def test_every_release_has_its_database() -> None:
    changelog = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
    assert {*re.findall(r"^## (\d\S*)", changelog, re.MULTILINE), nas_edge.__version__} <= set(RELEASES)


@pytest.mark.parametrize("release", RELEASES)
def test_a_study_of_a_release_is_read_and_gone_on_with(release: str, tmp_path: Path) -> None:
    stored = StoredStudy.load("tiny", restored(release, tmp_path)).at(tmp_path)
    assert [t.number for t in stored.front()] == [3, 1, 0, 2]
    assert stored.front()[0].values == [0.4623955431754875, 0.23382000000000003]
    finals = stored.tables.finals("tiny")
    assert finals[3]["test_accuracy"] == 0.42896935933147634
    (audit,) = stored.tables.audits("tiny")
    target = stored.study.user_attrs["target"]["fingerprint"]
    assert len(stored.tables.predictions(target, audit.profile)) == len(stored.tables.measurements(target)) == 5
    assert stored.tables.calibration(target, "tiny1/1x8/") is not None
    stored.study.tell(stored.ask(stored.trials()), [0.99, 0.1])
    assert [t.number for t in stored.front()] == [5, 2]
    assert version(stored.storage.engine) == str(schema.SCHEMA_VERSION)


def test_an_older_file_is_upgraded_after_a_backup(later: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = restored("0.1.0", tmp_path)
    before = StoredStudy.load("tiny", url)
    assert notes(before.storage.engine) == ["from version 1"] * 4 and version(before.storage.engine) == "2"
    (name,) = backups(tmp_path)
    assert re.fullmatch(r"study\.db\.backup-v1-\d{8}T\d{6}", name)
    later.undo()  # the version before
    kept = StoredStudy.load("tiny", f"sqlite:///{tmp_path}/{name}")
    assert version(kept.storage.engine) == "1" and notes(kept.storage.engine) is None
    assert kept.trials() == before.trials() and kept.tables.finals("tiny") == before.tables.finals("tiny")
    with pytest.raises(StorageError, match="schema version 2 of nas_edge, this one reads 1"):
        StoredStudy.load("tiny", url)


def test_an_upgrade_is_done_whole_or_not_at_all(later: pytest.MonkeyPatch, tmp_path: Path) -> None:
    later.setitem(schema.UPGRADES, 1, add_note_and_fail)
    storage = open_storage(restored("0.1.0", tmp_path), create=False)
    with pytest.raises(sa.exc.OperationalError, match="nas_edge_nothing"):
        DatabaseRows(storage.engine)
    assert version(storage.engine) == "1" and notes(storage.engine) is None
    later.setitem(schema.UPGRADES, 1, add_note)
    DatabaseRows(storage.engine)
    assert notes(storage.engine) == ["from version 1"] * 4


def test_without_a_backup_nothing_is_upgraded(later: pytest.MonkeyPatch, tmp_path: Path) -> None:
    storage = open_storage(restored("0.1.0", tmp_path), create=False)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    later.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match=r"backup study\.db\.backup-v1-\S+ cannot be written: .*No space left"):
        DatabaseRows(storage.engine)
    assert version(storage.engine) == "1" and notes(storage.engine) is None and backups(tmp_path) == []


def test_a_backup_holds_what_is_not_yet_in_the_file(tmp_path: Path) -> None:
    """But in the write-ahead log."""
    storage = open_storage(f"sqlite:///{tmp_path}/study.db", create=True)
    Tables(storage.rows).add_final("one", 3, {"accuracy": 0.5})
    assert (tmp_path / "study.db-wal").stat().st_size
    copy = back_up(storage.engine, "v1")
    assert Tables(open_storage(f"sqlite:///{copy}", create=False).rows).finals("one") == {3: {"accuracy": 0.5}}


def test_a_server_is_upgraded_by_a_command(
    later: pytest.MonkeyPatch, postgresql: DatabaseServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgresql.database()
    engine = open_storage(url, create=True).engine
    later.setattr(schema, "SCHEMA_VERSION", 1)
    Tables(DatabaseRows(engine)).add_final("one", 3, {"accuracy": 0.5})
    later.setattr(schema, "SCHEMA_VERSION", 2)
    with pytest.raises(StorageError, match=r"of nas_edge's version 1, this one has 2; .* run: nas-edge upgrade --st"):
        DatabaseRows(engine)
    assert version(engine) == "1" and notes(engine) is None
    later.setitem(schema.UPGRADES, 1, add_note_and_fail)
    with pytest.raises(sa.exc.ProgrammingError, match="nas_edge_nothing"):
        prepare_tables(engine, upgrade=True)
    assert version(engine) == "1" and notes(engine) is None
    later.setitem(schema.UPGRADES, 1, add_note)
    assert main(["upgrade", "--storage", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema_version"] == schema.SCHEMA_VERSION
    assert version(engine) == "2" and notes(engine) == ["from version 1"]
    DatabaseRows(engine)


def make_optuna_older(engine: sa.Engine) -> None:
    """As Optuna 3.1 left its tables."""
    with engine.begin() as connection:
        connection.execute(sa.text("DROP INDEX ix_trials_study_id"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v3.0.0.d'"))


def has_index(engine: sa.Engine) -> bool:
    return any(index["column_names"] == ["study_id"] for index in sa.inspect(engine).get_indexes("trials"))


def test_optunas_older_tables_are_upgraded_too(tmp_path: Path) -> None:
    url = restored("0.1.0", tmp_path)
    make_optuna_older(sa.create_engine(url))
    stored = StoredStudy.load("tiny", url)
    assert has_index(stored.storage.engine) and len(stored.front()) == 4
    (name,) = backups(tmp_path)
    assert name.startswith("study.db.backup-optuna-v3.0.0.d-")
    assert not has_index(sa.create_engine(f"sqlite:///{tmp_path}/{name}"))


def test_optunas_older_tables_in_a_server_wait_for_the_command(postgresql: DatabaseServer) -> None:
    url = postgresql.database()
    make_optuna_older(open_storage(url, create=True).engine)
    close_storages()
    with pytest.raises(StorageError, match=r"Optuna's version v3\.0\.0\.d, .* run: nas-edge upgrade --storage URL"):
        open_storage(url, create=False)
    assert main(["upgrade", "--storage", url]) == 0
    assert has_index(open_storage(url, create=False).engine)


def test_tables_of_a_newer_optuna_are_refused(tmp_path: Path) -> None:
    url = restored("0.1.0", tmp_path)
    with sa.create_engine(url).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v99.0.0.a'"))
    with pytest.raises(StorageError, match=r"newer Optuna, whose tables are v99\.0\.0\.a.*pip install -U optuna"):
        open_storage(url, create=False)
    assert backups(tmp_path) == []


def test_which_database_is_to_be_upgraded_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upgrade"]) == 2
    assert "give --storage URL" in capsys.readouterr().err
