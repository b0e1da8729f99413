"""Opens the database of a study: Optuna's RDBStorage by URL, with what SQLite needs to be quick and safe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa

from nas_edge.errors import StorageError

SQLITE_TIMEOUT_S = 60


def shown(url: str) -> str:
    """A storage URL without its password, for messages."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "(not a URL)"


def open_storage(url: str, *, create: bool) -> optuna.storages.RDBStorage:
    """Optuna's storage at a URL. Raises `StorageError` where it cannot be opened."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise StorageError(
            "--storage is not a database URL; write it like sqlite:///runs/digits/study.db or "
            "postgresql://user:password@host/database"
        ) from None
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and parsed.database:
        _prepare_file(Path(parsed.database), create=create)
    try:
        storage = optuna.storages.RDBStorage(
            url, engine_kwargs={"connect_args": {"timeout": SQLITE_TIMEOUT_S}} if sqlite else {}
        )
        if sqlite:
            sa.event.listen(storage.engine, "connect", _tune_sqlite)
            storage.engine.dispose()  # connections made before the listener
            with storage.engine.connect():
                pass
    except (sa.exc.SQLAlchemyError, ImportError, RuntimeError, OSError) as error:
        raise StorageError(f"storage {shown(url)} cannot be opened: {_reason(error)}") from None
    return storage


def _prepare_file(path: Path, *, create: bool) -> None:
    if not create and not path.is_file():
        raise StorageError(f"there is no study database at {path}; check the name, --out or --storage")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {path.parent} cannot be made: {error.strerror}; choose another --out") from None


def _tune_sqlite(connection: Any, _record: object) -> None:
    """Write-ahead log: readers do not block the writer, and a commit needs no full sync to survive a killed process."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _reason(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
