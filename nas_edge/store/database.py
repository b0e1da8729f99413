"""Opens the storage of a study by its URL: Optuna's own in a database, or the client of a proxy before one."""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import optuna
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError

from nas_edge.errors import StorageError
from nas_edge.store.failures import is_failure, reason_of
from nas_edge.store.mounts import mount_of
from nas_edge.store.schema import prepare_optuna
from nas_edge.store.storage import QuickStorage

if TYPE_CHECKING:
    from nas_edge.store.proxy import ProxyStorage

    Storage = QuickStorage | ProxyStorage

SQLITE_TIMEOUT_S = 60
DAMAGED = ("malformed", "not a database")  # as SQLite says it
SECRET, HIDDEN = "pass", "***"  # part of the names of a URL's options that are passwords, and what stands for one
PROXY = "grpc://"
MAKING_ATTEMPTS, MAKING_S = 20, 0.2
MADE_MEANWHILE = ("already exists", "unique", "duplicate")  # as databases say it of tables and rows
_servers: dict[str, Storage] = {}  # those in use: a server has only so many connections


def shown(url: str) -> str:
    """A storage URL without its password, for messages."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return "(not a URL)"
    hidden = {key: HIDDEN for key in parsed.query if SECRET in key.lower()}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True).replace(quote_plus(HIDDEN), HIDDEN)


def open_storage(url: str, *, create: bool) -> Storage:
    """The storage at a URL; for a server one in a process. Raises `StorageError`."""
    if url in _servers:
        return _servers[url]
    storage = _open_proxy(url) if url.startswith(PROXY) else open_database(url, create=create)
    if storage.is_shared:
        _servers[url] = storage
    return storage


def open_database(url: str, *, create: bool, upgrade: bool = False) -> QuickStorage:
    """Optuna's storage in the database at a URL. Raises `StorageError`.

    An older one is refused, but for a SQLite file, unless `upgrade` brings it to this version.
    """
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
    with ExitStack() as failing:
        try:
            storage = _connected(url, {"connect_args": {"timeout": SQLITE_TIMEOUT_S}} if sqlite else {})
            failing.callback(disconnect, storage)
            if sqlite:
                sa.event.listen(storage.engine, "connect", _tune_sqlite)
                storage.engine.dispose()  # connections made before the listener
                with storage.engine.connect():
                    pass
            prepare_optuna(storage, upgrade=upgrade)
        except (sa.exc.SQLAlchemyError, StorageInternalError, ImportError, RuntimeError, OSError) as error:
            reason = reason_of(error)
            remedy = "install that driver" if isinstance(error, ImportError) else "check the URL"
            if sqlite and any(word in reason for word in DAMAGED):
                remedy = _replacement(Path(parsed.database or ""))
            raise StorageError(
                f"storage {shown(url)} cannot be opened: {reason}; {remedy}, or choose another --storage"
            ) from None
        failing.pop_all()
    return storage


def _connected(url: str, options: dict[str, Any]) -> QuickStorage:
    """Optuna's storage, its tables made. Another process may be making them: then it is tried again."""
    for attempt in range(MAKING_ATTEMPTS):
        try:
            return QuickStorage(
                url.replace("{", "{{").replace("}", "}}"),  # Optuna takes it for a template
                engine_kwargs=options,
                skip_compatibility_check=True,  # `prepare_optuna` says what to do
            )
        except sa.exc.DBAPIError as error:
            if attempt == MAKING_ATTEMPTS - 1 or not any(word in str(error).lower() for word in MADE_MEANWHILE):
                raise
            time.sleep(MAKING_S)
    raise AssertionError("the last attempt returns or raises")


def _open_proxy(url: str) -> ProxyStorage:
    """The client of a storage proxy. Raises `StorageError`."""
    try:
        from nas_edge.store.proxy import ProxyStorage, parse_address
    except ImportError:
        raise StorageError("a storage proxy needs gRPC; install it with: pip install 'nas-edge[grpc]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return ProxyStorage(*parse_address(url))


def storage_names(storage: Storage) -> list[str]:
    """Of all studies in a database."""
    return sorted(optuna.get_all_study_names(storage))


@contextmanager
def storage_errors() -> Iterator[None]:
    """A database that fails under way is said in one line, with the remedy."""
    try:
        yield
    except Exception as error:
        if not is_failure(error):
            raise
        raise failure(error) from error


def failure(error: BaseException) -> StorageError:
    """What a database that failed under way said, and the remedy."""
    reason = reason_of(error)
    remedy = "check space and permissions, then run the same command again"
    if any(word in reason for word in DAMAGED):
        remedy = (
            "the file is damaged: end what works on it, move those with -wal and -shm at the end of its name away, and "
            "put a copy of it back, such as a backup beside it"
        )
    return StorageError(f"the study's database failed: {reason}; {remedy}")


def close_storages() -> None:
    """Close the connections to database servers."""
    while _servers:
        disconnect(_servers.popitem()[1])


def disconnect(storage: Storage) -> None:
    """Close its connections."""
    storage.remove_session()
    if isinstance(storage, QuickStorage):
        storage.engine.dispose()
    else:
        storage.close()


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises `StorageError` where that is refused."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {path} cannot be made: {error.strerror}; choose another --out") from None


def _prepare_file(database: str, *, create: bool) -> None:
    """Refuse what is no place for a study, without opening the file: closing it would drop every lock that SQLite holds
    on it in this process, and others would go on as if it were gone (https://sqlite.org/howtocorrupt.html, 2.2)."""
    path = Path(database)
    if database == ":memory:":
        raise StorageError("a study in memory would be lost; give --storage a file, as in sqlite:///study.db")
    if database.startswith("file:"):  # SQLite's own kind of URI, with options of its own
        return
    if not create and not path.is_file():
        raise StorageError(f"there is no study database at {path}; check the name, --out or --storage")
    mount = mount_of(path)
    if mount is not None and mount.is_network:
        raise StorageError(
            f"the study's database {path} is on a network file system ({mount.kind}, mounted at {mount.point}), where "
            "SQLite loses data; give --storage a file on a local disk, as in sqlite:////var/tmp/study.db, or a "
            "database server, as in postgresql://user:password@host/database"
        )
    make_folder(path.parent)
    if path.is_file():
        _probe(path, create=create)


def _probe(path: Path, *, create: bool) -> None:
    """Raise `StorageError` where a file is damaged, or holds no studies and is not to: before anything changes it."""
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=SQLITE_TIMEOUT_S)
        ) as found:
            is_optunas = any(name == "study_name" for _, name, *_ in found.execute("PRAGMA table_info(studies)"))
            if is_optunas:
                found.execute("SELECT study_name FROM studies").fetchall()
    except sqlite3.OperationalError:  # it cannot be read in this way; opening it for writing says why, or can
        return
    except sqlite3.DatabaseError as error:
        raise StorageError(f"the study's database {path} cannot be opened: {error}; {_replacement(path)}") from None
    if not is_optunas and not create:
        raise StorageError(f"{path} holds no studies; check the name, --out or --storage")


def _replacement(path: Path) -> str:
    """What to do about a database that is damaged. A log that is left beside a copy would damage that."""
    copies = sorted(path.parent.glob(f"{path.name}.backup-*"), key=lambda copy: copy.stat().st_mtime)
    first = f"end what works on it, move {path.name}-wal and {path.name}-shm away if they are there, and put "
    return first + (f"its backup {copies[-1]} in its place" if copies else "a copy of it back: no backup is beside it")


def _tune_sqlite(connection: Any, _record: object) -> None:
    """Write-ahead log: readers do not block the writer, and a commit needs no full sync to survive a killed process."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
