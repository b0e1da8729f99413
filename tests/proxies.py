"""A real storage proxy, in a thread of the tests."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from nas_edge.store.database import disconnect, open_database
from nas_edge.store.proxy import proxy_server


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@contextmanager
def storage_proxy(url: str) -> Iterator[str]:
    """The URL of a proxy before a database."""
    storage, port = open_database(url, create=True), free_port()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's proxy is experimental
        server = proxy_server(storage, "127.0.0.1", port)
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
        disconnect(storage)
