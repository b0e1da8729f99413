"""A study on a real MariaDB server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from nas_edge.plugins import Registry
from nas_edge.store.database import close_storages, open_storage
from nas_edge.store.processes import GRACE_S, worker_mark
from nas_edge.store.turns import turn

from ..mariadb import mariadb_server
from ..studies import assert_whole, found, opened, search, tiny_config


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mariadb_server(tmp_path_factory.mktemp("mariadb")) as url:
        yield url


@pytest.fixture
def database(server: str) -> Iterator[str]:
    """The URL of an empty database."""
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("DROP DATABASE IF EXISTS studies"))
        connection.execute(sa.text("CREATE DATABASE studies"))
    engine.dispose()
    yield sa.make_url(server).set(database="studies").render_as_string(hide_password=False)
    close_storages()


def test_a_search_finds_there_what_it_finds_on_sqlite(tiny: Registry, tmp_path: Path, database: str) -> None:
    config = tiny_config(tmp_path / "run", techniques=["quantize"], trials=3, storage=database)
    first = found(search(config, tiny))
    more = search(config.model_copy(update={"trials": 4}), tiny)
    assert found(more)[:3] == first
    assert_whole(more, 4, tmp_path)
    assert found(more) == found(search(tiny_config(tmp_path / "plain", techniques=["quantize"], trials=4), tiny))


def test_a_silent_machine_is_known_by_the_databases_clock(tiny: Registry, tmp_path: Path, database: str) -> None:
    _, stored = opened(tiny_config(tmp_path, storage=database), tiny)
    trials = [stored.study.ask() for _ in range(2)]
    for trial, ago in zip(trials, (GRACE_S - 30, GRACE_S + 5), strict=True):
        trial.suggest_int("tiny.width", 4, 19)
        trial.set_user_attr("key", str(trial.number))
        trial.set_user_attr("worker", {**worker_mark(), "host": "elsewhere"})
        stored.storage.record_heartbeat(trial._trial_id)
        change = "UPDATE trial_heartbeats SET heartbeat = now() - INTERVAL :ago SECOND WHERE trial_id = :id"
        with stored.storage.engine.begin() as connection:
            connection.execute(sa.text(change), {"ago": ago, "id": trial._trial_id})
    assert stored.requeue_dead(stored.trials()) == 1
    assert [t.state for t in stored.trials()] == [TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING]


def test_many_take_turns(database: str) -> None:
    rows = open_storage(database, create=True).rows
    inside, most, count = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, count
        for _ in range(5):
            with turn(rows, "one"):
                inside += 1
                most = max(most, inside)
                count += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, count) == (1, 20)
