"""`nas-edge storage-proxy`: one process beside the database, through which other machines reach it."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer

from nas_edge.cli.study import StorageOption
from nas_edge.errors import UserError

GRACE_S = 5.0  # that requests in hand have to end


def storage_proxy(
    storage: StorageOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; by default this machine's own alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 13000,
) -> None:
    """Serve a database to other machines, which give --storage grpc://HOST:PORT. Ctrl-C ends it."""
    import warnings

    from nas_edge.cli.output import console
    from nas_edge.store.database import disconnect, open_database, shown

    try:
        import grpc

        from nas_edge.store.proxy import proxy_server
    except ImportError:
        raise UserError("a storage proxy needs gRPC; install it with: pip install 'nas-edge[grpc]'") from None
    if storage is None:
        raise UserError("which database? give --storage URL, or set NAS_EDGE_STORAGE")
    opened = open_database(storage, create=True)
    opened.rows  # noqa: B018  makes our tables, or says why not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's proxy is experimental
        server: grpc.Server = proxy_server(opened, host, port)
    server.start()
    console.print(f"{shown(storage)} is served at grpc://{host}:{port} (Ctrl-C ends it)", markup=False)
    if not _is_loopback(host):
        console.print(
            f"warning: whoever reaches {host}:{port} can read and change every study; it asks for no password",
            markup=False,
        )
    try:
        server.wait_for_termination()
    finally:
        server.stop(GRACE_S).wait()
        disconnect(opened)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
