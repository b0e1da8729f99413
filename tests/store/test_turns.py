"""One worker at a time by a row of the database, with threads on separate connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from nas_edge.store import turns
from nas_edge.store.database import open_storage
from nas_edge.store.tables import Tables, turn_table
from nas_edge.store.turns import turn


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/study.db" if sqlite else request.getfixturevalue("postgresql").database()
    engine = open_storage(url, create=True).engine
    Tables(engine)
    yield engine
    engine.dispose()


def ticket(engine: sa.Engine, study: str = "one") -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.select(turn_table.c.ticket).where(turn_table.c.study == study)).scalar_one())


def test_many_take_turns(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "POLL_S", 0.001)
    inside, most, count = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, count
        for _ in range(10):
            with turn(engine, "one"):
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
    assert ticket(engine) == 80  # taken and given back


def test_studies_do_not_wait_for_each_other(engine: sa.Engine) -> None:
    with turn(engine, "one"), turn(engine, "other"):
        assert (ticket(engine), ticket(engine, "other")) == (1, 1)


def test_a_turn_is_given_back_after_an_error(engine: sa.Engine) -> None:
    with pytest.raises(RuntimeError, match="broken"), turn(engine, "one"):
        raise RuntimeError("broken")
    assert ticket(engine) == 2


def test_the_turn_of_a_dead_holder_is_taken(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with turn(engine, "one"):  # never gives it back in time
        monkeypatch.setattr(turns, "LEASE_S", 0.2)
        start = time.monotonic()
        with turn(engine, "one"):
            assert time.monotonic() - start > 0.2
            held = ticket(engine)
        assert held == 3 and ticket(engine) == 4
    assert ticket(engine) == 4  # what the first gives back is no longer its own
