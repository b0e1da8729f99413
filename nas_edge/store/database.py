"""Opens the database of a study: Optuna's RDBStorage by URL, with what SQLite needs to be quick and safe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError

from nas_edge.errors import StorageError
from nas_edge.store.storage import QuickStorage

SQLITE_TIMEOUT_S = 60
_servers: dict[str, QuickStorage] = {}  # those in use: a server has only so many connections


def shown(url: str) -> str:
    """A storage URL without its password, for messages."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except (sa.exc.ArgumentError, ValueError):
        return "(not a URL)"


def open_storage(url: str, *, create: bool) -> QuickStorage:
    """Optuna's storage at a URL; for a database server one in a process. Raises `StorageError`."""
    if url in _servers:
        return _servers[url]
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # ValueError for a port that is no number
        raise StorageError(
            "--storage is not a database URL; write it like sqlite:///runs/digits/study.db or "
            "postgresql://user:password@host/database"
        ) from None
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite:
        _prepare_file(parsed.database or ":memory:", create=create)
    try:
        storage = QuickStorage(url, engine_kwargs={"connect_args": {"timeout": SQLITE_TIMEOUT_S}} if sqlite else {})
        if sqlite:
            sa.event.listen(storage.engine, "connect", _tune_sqlite)
            storage.engine.dispose()  # connections made before the listener
            with storage.engine.connect():
                pass
    except (sa.exc.SQLAlchemyError, StorageInternalError, ImportError, RuntimeError, OSError) as error:
        remedy = "install that driver" if isinstance(error, ImportError) else "check the URL"
        raise StorageError(
            f"storage {shown(url)} cannot be opened: {_reason(error)}; {remedy}, or choose another --storage"
        ) from None
    if not sqlite:
        _servers[url] = storage
    return storage


@contextmanager
def storage_errors() -> Iterator[None]:
    """A database that fails under way is said in one line, with the remedy."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, StorageInternalError) as error:
        remedy = "check space and permissions, then run the same command again"
        raise StorageError(f"the study's database failed: {_reason(error)}; {remedy}") from error


def close_storages() -> None:
    """Close the connections to database servers."""
    while _servers:
        _, storage = _servers.popitem()
        storage.remove_session()
        storage.engine.dispose()


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises `StorageError` where that is refused."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {path} cannot be made: {error.strerror}; choose another --out") from None


def _prepare_file(database: str, *, create: bool) -> None:
    path = Path(database)
    if database == ":memory:":
        raise StorageError("a study in memory would be lost; give --storage a file, as in sqlite:///study.db")
    if database.startswith("file:"):  # SQLite's own kind of URI, with options of its own
        return
    if not create and not path.is_file():
        raise StorageError(f"there is no study database at {path}; check the name, --out or --storage")
    make_folder(path.parent)


def _tune_sqlite(connection: Any, _record: object) -> None:
    """Write-ahead log: readers do not block the writer, and a commit needs no full sync to survive a killed process."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
