"""Optuna's gRPC proxy in front of a database, with our tables and clocks: machines need no way to the database itself.

`proxy_server` runs beside the database; `ProxyStorage` is what the others open, by `grpc://HOST:PORT`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import sqlalchemy as sa
from optuna.storages import GrpcStorageProxy, get_storage
from optuna.storages._grpc.server import make_server
from optuna.trial import FrozenTrial

from nas_edge.errors import StorageError, UserError
from nas_edge.store.rows import Row
from nas_edge.store.storage import QuickStorage

SERVICE = "nas_edge.Store"
ROWS = ("select", "insert", "replace", "exchange")  # what may be asked of our tables
CLOCK = ("record_heartbeat", "silences")  # and of the database's clock
CONNECT_S = 10.0


class ProxyStorage(GrpcStorageProxy):
    """Optuna's client, which also asks for what is ours."""

    is_shared = True

    def __init__(self, host: str, port: int) -> None:
        """Raises `StorageError` where no proxy answers."""
        super().__init__(host=host, port=port)
        try:
            self.wait_server_ready(CONNECT_S)
        except ConnectionError:
            raise StorageError(
                f"no storage proxy answers at {host}:{port}; start one there: nas-edge storage-proxy --storage URL"
            ) from None
        self.rows = RemoteRows(self._channel)

    @property
    def engine(self) -> sa.Engine:
        """Raises `StorageError`: a proxy is there so that nobody needs the database itself."""
        raise StorageError("a storage proxy gives no way to the database itself; give --storage the database's URL")

    def record_heartbeat(self, trial_id: int) -> None:
        _call(self._channel, "record_heartbeat", trial_id)

    def silences(self, trial_ids: Sequence[int]) -> dict[int, float]:
        return {int(trial_id): age for trial_id, age in _call(self._channel, "silences", list(trial_ids)).items()}

    def brief_trials(self, study_id: int) -> list[FrozenTrial]:
        return self.get_all_trials(study_id, deepcopy=False)

    def whole_trials(self, study_id: int, trial_ids: Sequence[int]) -> list[FrozenTrial]:
        wanted = set(trial_ids)
        return [t for t in self.get_all_trials(study_id, deepcopy=False) if t._trial_id in wanted]

    @contextmanager
    def together(self, trial_id: int) -> Iterator[None]:
        """Nothing is to be gained: the proxy is near the database."""
        yield

    def remove_session(self) -> None:
        """There is none here."""


class RemoteRows:
    """The rows of our tables, by way of the proxy."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def select(self, table: str, columns: Sequence[str], where: Row, order: str | None = None) -> list[list[Any]]:
        found: list[list[Any]] = _call(self._channel, "select", table, list(columns), dict(where), order)
        return found

    def insert(self, table: str, rows: Sequence[Row]) -> bool:
        return bool(_call(self._channel, "insert", table, [dict(row) for row in rows]))

    def replace(self, table: str, where: Row, row: Row) -> None:
        _call(self._channel, "replace", table, dict(where), dict(row))

    def exchange(self, table: str, where: Row, column: str, old: int, new: int) -> bool:
        return bool(_call(self._channel, "exchange", table, dict(where), column, old, new))


def proxy_server(storage: QuickStorage, host: str, port: int) -> grpc.Server:
    """Optuna's service and ours; it is still to be started. Raises `UserError` where the port cannot be had."""
    try:
        made = make_server(get_storage(storage), host, port)
    except RuntimeError as error:
        raise UserError(f"--port {port} cannot be used on {host}: {error}; choose another one") from None
    made.add_generic_rpc_handlers((_handlers(storage),))
    return made


def _handlers(storage: QuickStorage) -> grpc.GenericRpcHandler:
    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        asked = json.loads(request)
        method, arguments = asked["method"], asked["arguments"]
        if method not in (*ROWS, *CLOCK):
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no method {method!r}")
        subject = storage.rows if method in ROWS else storage
        return json.dumps(getattr(subject, method)(*arguments)).encode()

    handler = grpc.unary_unary_rpc_method_handler(answer)  # bytes as they are
    return grpc.method_handlers_generic_handler(SERVICE, {"Call": handler})


def _call(channel: grpc.Channel, method: str, *arguments: Any) -> Any:
    request = json.dumps({"method": method, "arguments": arguments}).encode()
    reply = channel.unary_unary(f"/{SERVICE}/Call")(request)
    return json.loads(reply)


def parse_address(url: str) -> tuple[str, int]:
    """The host and port of `grpc://HOST:PORT`. Raises `StorageError`."""
    host, colon, port = url.removeprefix("grpc://").rstrip("/").rpartition(":")
    if not host or not colon or not port.isdecimal():
        raise StorageError(f"--storage is {url!r}; write the proxy's address like grpc://HOST:PORT")
    return host, int(port)
