"""One worker at a time by a row of the database, with threads on separate connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_edge.store import turns
from nas_edge.store.database import close_storages, disconnect, open_database, open_storage
from nas_edge.store.rows import Rows
from nas_edge.store.tables import turn_table
from nas_edge.store.turns import turn

from ..proxies import storage_proxy


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "proxy"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rows]:
    url = f"sqlite:///{tmp_path}/study.db"
    if request.param == "proxy":
        with storage_proxy(url) as address:
            yield open_storage(address, create=False).rows
            close_storages()
        return
    if request.param != "sqlite":
        url = request.getfixturevalue(request.param).database()
    storage = open_database(url, create=True)
    yield storage.rows
    disconnect(storage)


def ticket(rows: Rows, study: str = "one") -> int:
    [[ticket]] = rows.select(turn_table.name, ["ticket"], {"study": study})
    return int(ticket)


def test_many_take_turns(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "POLL_S", 0.001)
    inside, most, count = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, count
        for _ in range(10):
            with turn(rows, "one"):
                inside += 1
                most = max(most, inside)
                before = count
                time.sleep(0.001)
                count = before + 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, count) == (1, 40)
    assert ticket(rows) == 80  # taken and given back


def test_studies_do_not_wait_for_each_other(rows: Rows) -> None:
    with turn(rows, "one"), turn(rows, "other"):
        assert (ticket(rows), ticket(rows, "other")) == (1, 1)


def test_a_turn_is_given_back_after_an_error(rows: Rows) -> None:
    with pytest.raises(RuntimeError, match="broken"), turn(rows, "one"):
        raise RuntimeError("broken")
    assert ticket(rows) == 2


def test_the_turn_of_a_dead_holder_is_taken(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    with turn(rows, "one"):  # never gives it back in time
        monkeypatch.setattr(turns, "LEASE_S", 0.2)
        start = time.monotonic()
        with turn(rows, "one"):
            assert time.monotonic() - start > 0.2
            held = ticket(rows)
        assert held == 3 and ticket(rows) == 4
    assert ticket(rows) == 4  # what the first gives back is no longer its own
