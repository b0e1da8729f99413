"""The version of our tables, and of Optuna's: older ones are upgraded, newer ones refused.

A SQLite file is copied first and upgraded where it is opened. A database server belongs to others as well: there it is
done by a command, once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import optuna
import sqlalchemy as sa

from nas_edge.errors import StorageError

SCHEMA_VERSION = 1
# What brings the tables of a version to the next one, within a transaction. A stored database of each version that was
# released is in tests/store/released.
UPGRADES: dict[int, Callable[[sa.Connection], None]] = {}
COMMAND = "nas-edge upgrade --storage URL"

metadata = sa.MetaData()
meta_table = sa.Table(
    "nas_edge_meta",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
VERSION = sa.select(meta_table.c.value).where(meta_table.c.key == "schema_version")


def prepare_tables(engine: sa.Engine, *, upgrade: bool = False) -> None:
    """Make our tables in a database, or bring them to this version. Raises `StorageError` where that is refused.

    `upgrade` does it in a database server as well.
    """
    with engine.connect() as connection:
        found = set(sa.inspect(connection).get_table_names())
        version = _number(connection.execute(VERSION).scalar_one_or_none() if meta_table.name in found else None)
    if version == SCHEMA_VERSION and found.issuperset(metadata.tables):
        return
    if version is not None and version < SCHEMA_VERSION:
        _check_asked(engine, upgrade, f"has tables of nas_edge's version {version}, this one has {SCHEMA_VERSION}")
        if engine.dialect.name == "sqlite":
            back_up(engine, f"v{version}")
    with engine.connect() as connection:
        _begin(connection)
        metadata.create_all(connection, [meta_table])
        version = _number(connection.execute(VERSION.with_for_update()).scalar_one_or_none())  # others may be quicker
        for old in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
            UPGRADES[old](connection)
        metadata.create_all(connection)
        if version != SCHEMA_VERSION:
            connection.execute(sa.delete(meta_table).where(meta_table.c.key == "schema_version"))
            connection.execute(sa.insert(meta_table).values(key="schema_version", value=str(SCHEMA_VERSION)))
        connection.commit()


def prepare_optuna(storage: optuna.storages.RDBStorage, *, upgrade: bool = False) -> None:
    """The same for Optuna's tables."""
    current, newest = storage.get_current_version(), storage.get_head_version()
    if current == newest:
        return
    if current not in storage.get_all_versions():
        raise StorageError(
            f"the database was made by a newer Optuna, whose tables are {current}; "
            f"this is {optuna.__version__}, with {newest}: pip install -U optuna"
        )
    _check_asked(storage.engine, upgrade, f"has tables of Optuna's version {current}, this one has {newest}")
    if storage.engine.dialect.name == "sqlite":
        back_up(storage.engine, f"optuna-{current}")
    storage.upgrade()


def back_up(engine: sa.Engine, version: str) -> Path:
    """Copy a SQLite database beside itself, whole or not at all. Raises `StorageError`."""
    path = Path(engine.url.database or "")
    copy = path.with_name(f"{path.name}.backup-{version}-{datetime.now():%Y%m%dT%H%M%S}")
    part = copy.with_name(f"{copy.name}.part")
    try:
        with engine.connect() as connection, closing(sqlite3.connect(part)) as target:
            source = connection.connection.driver_connection
            assert isinstance(source, sqlite3.Connection)
            source.backup(target)
        part.replace(copy)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise StorageError(
            f"{path} was made by an older version, and is not upgraded, for its backup {copy.name} cannot be written: "
            f"{error}; make room there, or copy the study's folder to where there is"
        ) from None
    return copy


def _number(stored: str | None) -> int | None:
    if stored is None:
        return None
    if not stored.isdecimal() or int(stored) > SCHEMA_VERSION:
        raise StorageError(
            f"the database has schema version {stored} of nas_edge, this one reads {SCHEMA_VERSION}; "
            "use the nas_edge that wrote it, or another --storage"
        )
    return int(stored)


def _check_asked(engine: sa.Engine, upgrade: bool, why: str) -> None:
    if engine.dialect.name != "sqlite" and not upgrade:
        raise StorageError(f"the database {why}; end its workers, make a backup, and run: {COMMAND}")


def _begin(connection: sa.Connection) -> None:
    """Begin a transaction that holds changes of tables, too: of itself Python begins none for those in SQLite."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
