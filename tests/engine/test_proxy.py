"""A study by way of a storage proxy: real gRPC, before real databases."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from optuna.trial import TrialState

from nas_edge.cli import main
from nas_edge.plugins import Registry
from nas_edge.store.database import close_storages, open_storage
from nas_edge.store.marks import worker_mark
from nas_edge.store.proxy import _call
from nas_edge.store.requeue import requeue_dead
from nas_edge.store.study import StoredStudy

from ..proxies import free_port, storage_proxy
from ..servers import DatabaseServer
from ..studies import (
    NAS_EDGE,
    assert_whole,
    environment,
    found,
    heed_interrupts,
    search,
    study_file,
    tiny_config,
    tiny_values,
)


def test_a_search_finds_there_what_it_finds_in_a_file(tiny: Registry, tmp_path: Path) -> None:
    plain = search(tiny_config(tmp_path / "plain", techniques=["quantize"], trials=4), tiny)
    with storage_proxy(f"sqlite:///{tmp_path}/far.db") as url:
        config = tiny_config(tmp_path / "run", techniques=["quantize"], trials=3, storage=url)
        search(config, tiny)
        more = search(config.model_copy(update={"trials": 4}), tiny)
        assert_whole(more, 4, tmp_path)
        assert found(more) == found(plain)
        assert len(more.tables.finals("tiny")) == len(plain.tables.finals("tiny")) > 0
        assert more.snapshot().trials(TrialState.COMPLETE) == more.trials(TrialState.COMPLETE)
        assert main(["show", "tiny", "--storage", url]) == 0
        close_storages()
    direct = StoredStudy.load("tiny", f"sqlite:///{tmp_path}/far.db")
    assert found(direct) == found(plain)


@pytest.mark.long
def test_machines_share_a_study_by_the_command(
    tiny: Registry, tiny_site: Path, tmp_path: Path, postgresql: DatabaseServer
) -> None:
    """The proxy is a process of its own; two searches use it, and end clearly once it is gone."""
    port, trials = free_port(), 5
    url = f"grpc://127.0.0.1:{port}"
    values = environment(tiny_site, TINY_SECONDS="0.1", NAS_EDGE_STORAGE=postgresql.database())
    command = (*NAS_EDGE, "storage-proxy", "--port", str(port))
    proxy = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=values, preexec_fn=heed_interrupts)
    with proxy:
        assert proxy.stderr is not None
        assert f"is served at {url}" in proxy.stderr.readline()
        opened = tiny_values(tmp_path / "a", storage=url, trials=trials)
        files = [study_file(tmp_path / f"{name}.toml", {**opened, "out": str(tmp_path / name)}) for name in ("a", "b")]
        searches = [
            subprocess.Popen((*NAS_EDGE, "search", file), stderr=subprocess.PIPE, text=True, env=values)
            for file in files
        ]
        said = [process.communicate(timeout=200)[1] for process in searches]
        stored = StoredStudy.load("tiny", url)
        keys = [t.user_attrs["key"] for t in stored.evaluated()]
        assert len(keys) == trials == len(set(keys)), said
        assert not stored.trials(TrialState.RUNNING, TrialState.WAITING)
        close_storages()
        proxy.send_signal(signal.SIGINT)
        assert proxy.wait(timeout=30) == 130


def test_heartbeats_and_silence(tiny: Registry, tmp_path: Path) -> None:
    with storage_proxy(f"sqlite:///{tmp_path}/far.db") as url:
        stored = search(tiny_config(tmp_path / "run", trials=1, storage=url), tiny)
        trial = stored.study.ask()
        trial.set_user_attr("worker", {**worker_mark(), "host": "elsewhere"})
        with stored.working(trial):
            pass
        ages = stored.storage.silences([trial._trial_id, 10**6])
        assert set(ages) == {trial._trial_id} and 0 <= ages[trial._trial_id] < 60
        assert requeue_dead(stored, stored.trials()) == 0
        close_storages()


def test_where_none_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nas_edge.store.proxy.CONNECT_S", 0.2)
    url = f"grpc://127.0.0.1:{free_port()}"
    assert main(["show", "tiny", "--storage", url]) == 2
    said = capsys.readouterr().err
    assert "no storage proxy answers at 127.0.0.1:" in said and "nas-edge storage-proxy --storage URL" in said
    for wrong in ("grpc://host", "grpc://:1", "grpc://host:port"):
        assert main(["show", "tiny", "--storage", wrong]) == 2
        assert f"--storage is '{wrong}'; write the proxy's address like grpc://HOST:PORT" in capsys.readouterr().err


def test_only_what_is_ours_may_be_asked(tmp_path: Path) -> None:
    with storage_proxy(f"sqlite:///{tmp_path}/far.db") as url:
        storage = open_storage(url, create=False)
        for method in ("engine", "__class__", "delete_study", "upgrade"):
            with pytest.raises(Exception, match=f"no method '{method}'"):
                _call(storage._channel, method)  # type: ignore[union-attr]
        close_storages()


def test_a_proxy_that_goes_away_ends_a_search_in_one_line(
    tiny: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with storage_proxy(f"sqlite:///{tmp_path}/far.db") as url:
        search(tiny_config(tmp_path / "run", trials=1, storage=url), tiny)
    assert main(["show", "tiny", "--storage", url]) == 2
    assert "the study's database failed" in capsys.readouterr().err
    close_storages()
