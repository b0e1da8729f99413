"""Workers as tasks of a Ray cluster: a real one on this machine, of two nodes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from nas_edge.cli import main
from nas_edge.engine.cluster import RayCluster
from nas_edge.errors import UserError
from nas_edge.plugins import Registry
from nas_edge.store.study import StoredStudy

from ..servers import DatabaseServer
from ..studies import NAS_EDGE, assert_whole, environment, opened, study_file, tiny_config, tiny_values

has_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.mark.parametrize(
    ("text", "cluster"),
    [
        ("ray", RayCluster(None)),
        ("ray?cpus=4&gpus=0.5", RayCluster(None, 4.0, 0.5)),
        ("ray://auto", RayCluster("auto")),
        ("ray://head:10001", RayCluster("ray://head:10001")),
        ("ray://10.0.0.1:10001?cpus=2", RayCluster("ray://10.0.0.1:10001", 2.0)),
    ],
)
def test_addresses(text: str, cluster: RayCluster) -> None:
    assert RayCluster.parse(text) == cluster


@pytest.mark.parametrize("text", ["ray?cpus=0", "ray?cpus=many", "ray?gpus=-1", "ray?cores=2", "ray://head/x"])
def test_what_is_no_cluster_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^--on is '.*'; use ray, ray://HOST:PORT or ray://auto"):
        RayCluster.parse(text)


def test_machines_cannot_share_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--on", "ray://head:10001", "--out", str(tmp_path / "run")]) == 2
    assert "cannot share a SQLite file; give --storage postgresql://" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_is_no_address_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--on", "spark"]) == 2
    assert "--on is 'spark'" in capsys.readouterr().err


@has_ray
@pytest.mark.long
def test_a_node_that_dies_loses_nothing(
    tiny: Registry, tiny_site: Path, tmp_path: Path, postgresql: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, trials, out = postgresql.database(), 24, tmp_path / "shared"
    values = tiny_values(out, storage=url, trials=trials, audit_trials=0, workers=2)
    opened(tiny_config(out, storage=url, trials=trials, audit_trials=0), tiny)
    file = study_file(tmp_path / "tiny.toml", values)
    variables = environment(tiny_site, TINY_SECONDS="0.5")
    for name in ("PYTHONPATH", "NAS_EDGE_LOAD_PLUGINS", "TINY_SECONDS"):
        monkeypatch.setenv(name, variables[name])
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        command = (*NAS_EDGE, "search", file, "--on", "ray://auto")
        with subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": cluster.address}) as process:
            stored = StoredStudy.load("tiny", url)
            while len({t.user_attrs["worker"]["pid"] for t in stored.evaluated()}) < 2:
                assert process.poll() is None
                time.sleep(0.2)
            cluster.remove_node(second, allow_graceful=False)
            assert stored.finished() < trials
            assert process.wait(timeout=400) == 0
        assert_whole(stored, trials, tmp_path)
    finally:
        cluster.shutdown()
