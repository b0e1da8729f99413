"""Rows of our tables, in plain values: all that the tables need of a database, so that it may also be far away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from nas_edge.store.schema import metadata, prepare_tables

Row = Mapping[str, Any]


class Rows(Protocol):
    """`table` is the name of one of ours; a `where` holds the values that the columns of a row must have."""

    def select(self, table: str, columns: Sequence[str], where: Row, order: str | None = None) -> list[list[Any]]:
        """The columns of the rows that fit, in ascending `order` of a column where one is given."""
        ...

    def insert(self, table: str, rows: Sequence[Row]) -> bool:
        """Add all of the rows, or none and return False where one is there already."""
        ...

    def replace(self, table: str, where: Row, row: Row) -> None:
        """Put a row in the place of those that fit."""
        ...

    def exchange(self, table: str, where: Row, column: str, old: int, new: int) -> bool:
        """Change a number where it is the old one; whether it was."""
        ...


class DatabaseRows:
    """Those of a database. Makes the tables, or brings them to this version; raises `StorageError` like that."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        prepare_tables(engine)

    def select(self, table: str, columns: Sequence[str], where: Row, order: str | None = None) -> list[list[Any]]:
        held = metadata.tables[table]
        query = sa.select(*(held.c[name] for name in columns)).where(*_fits(held, where))
        if order is not None:
            query = query.order_by(held.c[order])
        with self._engine.connect() as connection:
            return [list(row) for row in connection.execute(query)]

    def insert(self, table: str, rows: Sequence[Row]) -> bool:
        try:
            with self._engine.begin() as connection:
                for row in rows:
                    connection.execute(sa.insert(metadata.tables[table]).values(**row))
        except sa.exc.IntegrityError:
            return False
        return True

    def replace(self, table: str, where: Row, row: Row) -> None:
        held = metadata.tables[table]
        with self._engine.begin() as connection:
            connection.execute(sa.delete(held).where(*_fits(held, where)))
            connection.execute(sa.insert(held).values(**where, **row))

    def exchange(self, table: str, where: Row, column: str, old: int, new: int) -> bool:
        held = metadata.tables[table]
        change = sa.update(held).where(*_fits(held, {**where, column: old})).values({column: new})
        with self._engine.begin() as connection:
            return bool(connection.execute(change).rowcount == 1)


def _fits(table: sa.Table, where: Row) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in where.items()]
