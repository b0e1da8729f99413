"""A disk that fails a study: the search ends with one line, and goes on when the cause is gone."""

from __future__ import annotations

import datetime
import errno
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from nas_edge import StorageError
from nas_edge.cli import main
from nas_edge.contracts import Context
from nas_edge.engine import loop
from nas_edge.engine.session import Session
from nas_edge.plugins import Registry
from nas_edge.store import processes
from nas_edge.store.locate import locate

from ..studies import assert_whole, keep_profile, search, study_file, tiny_config, tiny_values

SIZE = 4 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, left: int) -> Path:
    """A file that leaves so many bytes free."""
    path = folder / "filler"
    path.write_bytes(b"x" * (shutil.disk_usage(folder).free - left))
    return path


def begun(folder: Path, registry: Registry, **changes: Any) -> list[str]:
    """A study with one finished trial, and the command that goes on with it to three."""
    config = tiny_config(folder / "run", trials=1, audit_trials=0, **changes)
    search(config, registry).storage.engine.dispose()
    keep_profile(config, registry)
    return ["search", study_file(folder.parent / "study.toml", tiny_values(folder / "run", trials=3, audit_trials=0))]


def assert_refused(command: list[str], capfd: pytest.CaptureFixture[str], *words: str) -> None:
    capfd.readouterr()
    assert main(command) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: ") and any(word in last for word in words), said


@pytest.mark.parametrize("left", [0, 64 << 10])
def test_a_full_disk(left: int, disk: Path, tiny: Registry, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """At once, and in the midst of a trial."""
    command = begun(disk, tiny)
    filler = fill(disk, left)
    assert_refused(command, capfd, "full", "no space left")
    filler.unlink()
    assert main(command) == 0
    assert_whole(locate(str(disk / "run"), None), 3, tmp_path)


def test_a_disk_that_may_not_be_written(
    disk: Path, tiny: Registry, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = begun(disk, tiny)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert_refused(command, capfd, "readonly", "read-only", "unable to open")
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert main(command) == 0
    assert_whole(locate(str(disk / "run"), None), 3, tmp_path)


def test_a_database_that_was_cut_off(tiny: Registry, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = begun(tmp_path / "disk", tiny)
    path = tmp_path / "disk" / "run" / "study.db"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert_refused(command, capfd, "malformed; end what works on it, move study.db-wal and")
    backup = path.with_name("study.db.backup-v1-20260101T000000")
    backup.write_bytes(whole)
    assert_refused(["show", str(path)], capfd, f"put its backup {backup} in its place")
    assert path.read_bytes() == whole[: len(whole) // 2]
    backup.replace(path)
    assert main(command) == 0
    assert_whole(locate(str(path), None), 3, tmp_path)


def test_a_database_with_a_hole(tiny: Registry, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    begun(tmp_path / "disk", tiny)
    path = tmp_path / "disk" / "run" / "study.db"
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    assert_refused(["show", str(path)], capfd, "malformed; ")


def test_a_trial_that_finds_no_room_for_its_work(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up its turn, and is done again though not even that was noted: the process would wait for itself."""
    config = tiny_config(tmp_path / "run", trials=2)

    def full(*_: object, **__: object) -> AbstractContextManager[Context]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Session, "context", full)
        patched.setattr("nas_edge.store.requeue.requeue", full)
        with pytest.raises(OSError, match="No space left"):
            search(config, tiny)
    (left,) = locate(str(tmp_path / "run"), None).trials()
    assert left.state is TrialState.RUNNING
    stored = search(config, tiny)
    assert_whole(stored, 2, tmp_path)
    assert [t.user_attrs["why"] for t in stored.trials(TrialState.FAIL)] == ["left by an earlier search"]


def test_a_database_that_fails_in_a_trial_costs_no_candidate(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path / "run", trials=2)

    def gone(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("the connection is gone"))

    with monkeypatch.context() as patched:
        patched.setattr(loop, "store_evaluation", gone)
        with pytest.raises(StorageError, match=r"the study's database failed: .*the connection is gone; check space"):
            search(config, tiny)
    stored = search(config, tiny)
    assert_whole(stored, 2, tmp_path)
    (failed,) = stored.trials(TrialState.FAIL)
    assert failed.user_attrs["why"] == "stopped by an error"
    assert [t.user_attrs["retry_of"] for t in stored.evaluated() if "retry_of" in t.user_attrs] == [failed.number]


def test_a_clock_that_jumps(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By days, forth and back: nothing is taken for dead, and nothing waits."""

    class Jumping(datetime.datetime):
        jumps = 0

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            cls.jumps += 1
            days = datetime.timedelta(days=(-1) ** cls.jumps * cls.jumps)
            return datetime.datetime.now(tz) + days

    monkeypatch.setattr(optuna.storages._rdb.storage, "datetime", Jumping)
    monkeypatch.setattr(processes, "datetime", Jumping)
    stored = search(tiny_config(tmp_path / "run", trials=4), tiny)
    assert_whole(stored, 4, tmp_path)
    assert Jumping.jumps >= 8 and not stored.trials(TrialState.FAIL)


def test_what_is_not_ours_or_damaged_is_left_as_it_is(tmp_path: Path) -> None:
    """A look at somebody's database, or at a damaged one with its log beside it, changes no byte."""
    theirs = tmp_path / "theirs.db"
    with closing(sqlite3.connect(theirs)) as database:
        database.execute("CREATE TABLE studies (title)")
        database.commit()
    (tmp_path / "empty.db").touch()
    for path in (theirs, tmp_path / "empty.db"):
        before = path.read_bytes()
        with pytest.raises(StorageError, match=f"{path} holds no studies"):
            locate(str(path), None)
        assert path.read_bytes() == before
    damaged = tmp_path / "study.db"
    with closing(sqlite3.connect(damaged)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE studies (study_name)")
        database.executemany("INSERT INTO studies VALUES (?)", [(str(i),) for i in range(5000)])
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("CREATE TABLE later (number)")
        database.commit()
        kept = {name: (tmp_path / name).read_bytes() for name in ("study.db", "study.db-wal")}
    kept["study.db"] = kept["study.db"][:8192] + b"\xff" * (len(kept["study.db"]) - 8192)
    assert kept["study.db-wal"]
    for name, content in kept.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StorageError, match="malformed; end what works on it"):
        locate(str(damaged), None)
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept


def test_what_is_no_longer_a_database(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"SQLite format 3\0" + b"\1" * 16)
    with pytest.raises(StorageError, match="not a database; end what works on it"):
        locate(str(tmp_path), None)
