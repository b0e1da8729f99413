"""SQLite's locks on a study's file are those of a process, and gone as soon as it closes any handle on the file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from nas_edge.cli import main
from nas_edge.plugins import Registry
from nas_edge.store.database import disconnect, open_storage

from ..studies import keep_profile, study_file, tiny_config, tiny_values

OTHER = "import sys; from nas_edge.store.database import *; disconnect(open_storage(sys.argv[1], create=False))"
_opened: list[str] = []
_listening = False


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if _listening and event == "open":
        _opened.append(str(arguments[0]))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files that Python opens meanwhile; SQLite opens its own by itself."""
    sys.addaudithook(_listen)  # there is no way to take it away again
    _opened.clear()
    monkeypatch.setattr(sys.modules[__name__], "_listening", True)
    yield _opened


def test_a_log_in_use_outlives_who_opens_the_file_twice_and_who_leaves(tmp_path: Path) -> None:
    """Else the last to leave deletes it, and two logs are written for one file until that is malformed."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    first = open_storage(url, create=True)
    with first.engine.connect() as connection:
        connection.execute(sa.text("SELECT count(*) FROM studies"))
        disconnect(open_storage(url, create=False))
        log = (tmp_path / "study.db-wal").stat().st_ino
        subprocess.run((sys.executable, "-c", OTHER, url), check=True)
        assert (tmp_path / "study.db-wal").stat().st_ino == log
        connection.execute(sa.text("SELECT count(*) FROM studies"))
    disconnect(first)
    assert not (tmp_path / "study.db-wal").exists(), "the last one leaves none behind"


def test_no_command_opens_the_file_but_through_sqlite(tiny: Registry, tmp_path: Path, opened: list[str]) -> None:
    values = tiny_values(tmp_path / "run", trials=2, audit_trials=0)
    keep_profile(tiny_config(tmp_path / "run", trials=2), tiny)
    run = str(tmp_path / "run")
    for command in (
        ["search", study_file(tmp_path / "study.toml", values)],
        ["resume", run, "--trials", "3"],
        ["show", run],
        ["show", run, "0"],
        ["report", run, "-o", str(tmp_path / "report.html")],
        ["export", run, "0", "-o", str(tmp_path / "exported")],
    ):
        assert main(command) == 0, command
    files = {Path(path).name for path in opened}
    assert "report.html" in files or "report.html.part" in files, "the files that are opened are seen"
    assert not {name for name in files if name.startswith("study.db")}
