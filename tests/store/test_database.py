"""Opening databases: what works, and one line for what does not."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from nas_edge import StorageError
from nas_edge.store.database import open_storage, shown
from nas_edge.store.rows import DatabaseRows
from nas_edge.store.schema import SCHEMA_VERSION

from ..studies import sha256


def test_sqlite_keeps_a_write_ahead_log(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/a/b/study.db", create=True)
    with storage.engine.connect() as connection:
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(sa.text("PRAGMA synchronous")).scalar_one() == 1  # NORMAL
        assert connection.execute(sa.text("PRAGMA busy_timeout")).scalar_one() == 60_000


@pytest.mark.parametrize(
    "url",
    ["postgresql://user:secret@127.0.0.1:1/x", "mysql+pymysql://user:secret@127.0.0.1:1/x", "oops://u:secret@h/x"],
)
def test_a_password_is_never_shown(url: str) -> None:
    """Refused by the server, or because the driver is not installed: either way in one line."""
    with pytest.raises(StorageError, match="cannot be opened") as caught:
        open_storage(url, create=True)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert "secret" not in shown(url) and "***" in shown(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("study.db", "is not a database URL"),
        ("postgresql://user:secret@host:port/x", "is not a database URL"),
        ("oops://host/x", "oops"),
        ("sqlite://", "in memory would be lost"),
        ("sqlite:///:memory:", "in memory would be lost"),
        ("sqlite:////proc/nas_edge/study.db", "the folder /proc/nas_edge cannot be made"),
        ("sqlite:////dev/full", "disk is full"),
        ("sqlite:///{text}", "file is not a database"),
        ("sqlite:///{text}/study.db", "the folder {text} cannot be made: File exists"),
        ("sqlite:///{folder}", "unable to open database file"),
        ("sqlite:///file:{database}?mode=ro&uri=true", "readonly database"),
    ],
)
def test_what_cannot_be_opened_is_said_with_the_reason(url: str, reason: str, tmp_path: Path) -> None:
    text, database = tmp_path / "text", tmp_path / "study.db"
    text.write_text("no database\n" * 100)
    sqlite3.connect(database).close()
    names = {"text": str(text), "folder": str(tmp_path), "database": str(database)}
    before = sha256(text)
    with pytest.raises(StorageError) as caught:
        open_storage(url.format(**names), create=True)
    assert reason.format(**names) in str(caught.value)
    assert "secret" not in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert sha256(text) == before


def test_a_missing_database_is_not_made_to_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no study database"):
        open_storage(f"sqlite:///{tmp_path}/study.db", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, "2.0-beta"])
def test_tables_of_another_version_are_refused_untouched(version: object, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    storage = open_storage(f"sqlite:///{path}", create=True)
    DatabaseRows(storage.engine)
    with storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE nas_edge_meta SET value = :v"), {"v": str(version)})
        connection.execute(sa.text("DROP TABLE nas_edge_finals"))  # as if that version had no such table
    with pytest.raises(StorageError, match=f"schema version {version} of nas_edge, this one reads {SCHEMA_VERSION}"):
        DatabaseRows(storage.engine)
    assert "nas_edge_finals" not in sa.inspect(storage.engine).get_table_names()
