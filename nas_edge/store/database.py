"""Opens the database of a study: Optuna's RDBStorage by URL, with what SQLite needs to be quick and safe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError

from nas_edge.errors import StorageError
from nas_edge.store.mounts import mount_of
from nas_edge.store.schema import prepare_optuna
from nas_edge.store.storage import QuickStorage

SQLITE_TIMEOUT_S = 60
DAMAGED = ("malformed", "not a database")  # as SQLite says it
SECRET, HIDDEN = "pass", "***"  # part of the names of a URL's options that are passwords, and what stands for one
_servers: dict[str, QuickStorage] = {}  # those in use: a server has only so many connections


def shown(url: str) -> str:
    """A storage URL without its password, for messages."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return "(not a URL)"
    hidden = {key: HIDDEN for key in parsed.query if SECRET in key.lower()}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True).replace(quote_plus(HIDDEN), HIDDEN)


def open_storage(url: str, *, create: bool, upgrade: bool = False) -> QuickStorage:
    """Optuna's storage at a URL; for a database server one in a process. Raises `StorageError`.

    An older one is refused, but for a SQLite file, unless `upgrade` brings it to this version.
    """
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
    with ExitStack() as failing:
        try:
            storage = QuickStorage(
                url.replace("{", "{{").replace("}", "}}"),  # Optuna takes it for a template
                engine_kwargs={"connect_args": {"timeout": SQLITE_TIMEOUT_S}} if sqlite else {},
                skip_compatibility_check=True,  # `prepare_optuna` says what to do
            )
            failing.callback(_disconnect, storage)
            if sqlite:
                sa.event.listen(storage.engine, "connect", _tune_sqlite)
                storage.engine.dispose()  # connections made before the listener
                with storage.engine.connect():
                    pass
            prepare_optuna(storage, upgrade=upgrade)
        except (sa.exc.SQLAlchemyError, StorageInternalError, ImportError, RuntimeError, OSError) as error:
            reason = _reason(error)
            remedy = "install that driver" if isinstance(error, ImportError) else "check the URL"
            if sqlite and any(word in reason for word in DAMAGED):
                remedy = _replacement(Path(parsed.database or ""))
            raise StorageError(
                f"storage {shown(url)} cannot be opened: {reason}; {remedy}, or choose another --storage"
            ) from None
        failing.pop_all()
    if not sqlite:
        _servers[url] = storage
    return storage


@contextmanager
def storage_errors() -> Iterator[None]:
    """A database that fails under way is said in one line, with the remedy."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, StorageInternalError) as error:
        raise failure(error) from error


def failure(error: BaseException) -> StorageError:
    """What a database that failed under way said, and the remedy."""
    reason = _reason(error)
    remedy = "check space and permissions, then run the same command again"
    if any(word in reason for word in DAMAGED):
        remedy = "the file is damaged: put a copy of it back, such as a backup beside it"
    return StorageError(f"the study's database failed: {reason}; {remedy}")


def close_storages() -> None:
    """Close the connections to database servers."""
    while _servers:
        _disconnect(_servers.popitem()[1])


def _disconnect(storage: QuickStorage) -> None:
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
    if path.is_file():
        _check_whole(path)
    mount = mount_of(path)
    if mount is not None and mount.is_network:
        raise StorageError(
            f"the study's database {path} is on a network file system ({mount.kind}, mounted at {mount.point}), where "
            "SQLite loses data; give --storage a file on a local disk, as in sqlite:////var/tmp/study.db, or a "
            "database server, as in postgresql://user:password@host/database"
        )
    make_folder(path.parent)


def _check_whole(path: Path) -> None:
    """Raise `StorageError` where a file is shorter than its header says (https://sqlite.org/fileformat2.html).

    What is missing may be in the write-ahead log of a killed process.
    """
    log = path.with_name(f"{path.name}-wal")
    with path.open("rb") as file:
        header = file.read(32)
    if header[:16] != b"SQLite format 3\0" or (log.is_file() and log.stat().st_size):
        return
    page = int.from_bytes(header[16:18], "big")
    should, size = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big"), path.stat().st_size
    if size < should:
        raise StorageError(
            f"the study's database {path} was cut off: {size} of {should} bytes are left; {_replacement(path)}"
        )


def _replacement(path: Path) -> str:
    """What to do about a database that is damaged."""
    copies = sorted(path.parent.glob(f"{path.name}.backup-*"), key=lambda copy: copy.stat().st_mtime)
    return f"put its backup {copies[-1]} in its place" if copies else "put a copy of it back: no backup is beside it"


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
