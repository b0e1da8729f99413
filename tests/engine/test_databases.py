"""A study on real servers of databases."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from optuna.artifacts import get_all_artifact_meta
from optuna.trial import TrialState

from nas_edge.cli import main
from nas_edge.config import parse_config
from nas_edge.plugins import Registry
from nas_edge.store import processes
from nas_edge.store.database import close_storages
from nas_edge.store.locate import locate
from nas_edge.store.marks import worker_mark
from nas_edge.store.processes import GRACE_S
from nas_edge.store.requeue import requeue_dead
from nas_edge.store.study import StoredStudy

from ..servers import DatabaseServer
from ..studies import NAS_EDGE, assert_whole, environment, found, opened, search, study_file, tiny_config, tiny_values

# Seconds ago, by the clock of each.
AGO = {"postgresql": "make_interval(secs => :ago)", "mysql": "INTERVAL :ago SECOND"}


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of an empty database."""
    server: DatabaseServer = request.getfixturevalue(request.param)
    yield server.database()
    close_storages()


def test_a_search_finds_there_what_it_finds_on_sqlite(tiny: Registry, tmp_path: Path, url: str) -> None:
    config = tiny_config(tmp_path / "run", techniques=["quantize"], trials=3, storage=url)
    stored = search(config, tiny)
    assert_whole(stored, 3, tmp_path)
    plain = search(tiny_config(tmp_path / "plain", techniques=["quantize"], trials=3), tiny)
    first = found(stored)
    assert first == found(plain)
    more = search(config.model_copy(update={"trials": 4}), tiny)
    assert found(more)[:3] == first
    assert_whole(more, 4, tmp_path)


def test_machines_share_a_study(
    tiny: Registry, tiny_site: Path, tmp_path: Path, postgresql: DatabaseServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes that no lock of a machine keeps apart, as their locks are in other folders."""
    url, trials = postgresql.database(), 8
    opened(tiny_config(tmp_path / "made", storage=url, trials=trials), tiny)
    for name in "ab":  # with the artifacts on what they share
        (tmp_path / name).mkdir()
        (tmp_path / name / "artifacts").symlink_to(tmp_path / "made" / "artifacts")
    files = [
        study_file(tmp_path / f"{name}.toml", tiny_values(tmp_path / name, storage=url, trials=trials)) for name in "ab"
    ]
    values = environment(tiny_site, TINY_SECONDS="0.2")
    processes = [
        subprocess.Popen((*NAS_EDGE, "search", file), stderr=subprocess.PIPE, text=True, env=values) for file in files
    ]
    for process in processes:
        process.communicate(timeout=120)
    stored = StoredStudy.load("tiny", url)
    keys = [t.user_attrs["key"] for t in stored.evaluated()]
    assert len(keys) == trials == len(set(keys))
    assert not stored.trials(TrialState.RUNNING, TrialState.WAITING)
    assert len({t.user_attrs["worker"]["pid"] for t in stored.evaluated()}) == 2
    assert main(["show", "tiny", "--storage", url]) == 0
    assert f"{trials} finished" in capsys.readouterr().out


def test_a_worker_joins_and_takes_over(
    tiny: Registry, tiny_site: Path, tmp_path: Path, postgresql: DatabaseServer
) -> None:
    """It waits for the study's teacher, trains none of its own, and ends what the first one was killed in."""
    url, trials, out = postgresql.database(), 6, tmp_path / "shared"
    values = tiny_values(out, storage=url, trials=trials, techniques=["distill"], audit_trials=0)
    _, stored = opened(parse_config(values), tiny)
    command = (*NAS_EDGE, "worker", "tiny", "--storage", url, "--out", str(out), "--json")
    slow = environment(tiny_site, TINY_SECONDS="0.3")
    file = study_file(tmp_path / "tiny.toml", values)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=slow) as joined:
        assert joined.stderr is not None and joined.stdout is not None
        for line in joined.stderr:
            if line.startswith("Waiting for the study's teacher"):
                break
        with subprocess.Popen((*NAS_EDGE, "search", file), stderr=subprocess.DEVNULL, env=slow) as first:
            while stored.finished() < 2:
                assert first.poll() is None
                time.sleep(0.05)
            first.kill()
        said, answer = joined.stderr.read(), joined.stdout.read()
    assert joined.returncode == 0, said
    done = json.loads(answer)
    assert done["finished"] == trials and 0 < done["evaluated"] <= trials
    assert_whole(stored, trials, tmp_path)
    teachers = [m for m in get_all_artifact_meta(stored.study, storage=stored.storage) if m.filename == "teacher.pt"]
    assert len(teachers) == 1 and "teacher:" not in said


def test_a_worker_without_the_studys_folder_is_told(
    tiny: Registry, tmp_path: Path, postgresql: DatabaseServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgresql.database()
    search(tiny_config(tmp_path / "made", storage=url, trials=1, audit_trials=0), tiny)
    assert main(["worker", "tiny", "--storage", url, "--out", str(tmp_path / "other")]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/other/artifacts is not where study 'tiny' keeps its models; give --out" in said


def test_a_silent_machine_is_known_by_the_databases_clock(
    tiny: Registry, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SUSPECTED_S", 0.0)
    _, stored = opened(tiny_config(tmp_path, storage=url), tiny)
    trials = [stored.study.ask() for _ in range(2)]
    for trial, ago in zip(trials, (GRACE_S - 30, GRACE_S + 5), strict=True):
        trial.suggest_int("tiny.width", 4, 19)
        trial.set_user_attr("key", str(trial.number))
        trial.set_user_attr("worker", {**worker_mark(), "host": "elsewhere"})
        stored.storage.record_heartbeat(trial._trial_id)
        ago_there = AGO[stored.storage.engine.dialect.name]
        change = f"UPDATE trial_heartbeats SET heartbeat = now() - {ago_there} WHERE trial_id = :id"
        with stored.storage.engine.begin() as connection:
            connection.execute(sa.text(change), {"ago": ago, "id": trial._trial_id})
    assert requeue_dead(stored, stored.trials()) == 1
    states = [t.state for t in locate("tiny", stored.url).trials()]
    assert states == [TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING]
