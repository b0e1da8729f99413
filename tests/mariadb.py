"""A real MariaDB server, from Debian's package."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_S = 60.0


@contextmanager
def mariadb_server(folder: Path) -> Iterator[str]:
    """The URL of a server that listens on a socket in the folder alone. Skips the test where there is none."""
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
            yield f"mysql+pymysql://root@localhost/?unix_socket={socket}"
        finally:
            server.terminate()


def _await(socket: Path, server: subprocess.Popen[bytes]) -> None:
    """The server makes its socket when it is ready."""
    start = time.monotonic()
    while not socket.exists():
        assert server.poll() is None and time.monotonic() - start < PATIENCE_S
        time.sleep(0.05)
