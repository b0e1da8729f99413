"""Artifacts in a bucket of a server that speaks S3's protocol."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from nas_edge import StorageError
from nas_edge.cli import main
from nas_edge.config import make_config
from nas_edge.errors import UserError
from nas_edge.plugins import Registry
from nas_edge.store.artifacts import BucketArtifactStore
from nas_edge.store.study import StoredStudy

from ..servers import DatabaseServer
from ..studies import assert_whole, search, tiny_config

AWS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    command = (sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **AWS}) as server:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "Running on http" in line)
        yield line.rpartition("Running on ")[2].strip()
        server.kill()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket, and the environment in which boto3 finds it."""
    for name, value in {**AWS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()
    boto3.client("s3").create_bucket(Bucket="models")
    yield "s3://models"


def test_a_study_keeps_its_models_in_a_bucket(tiny: Registry, tmp_path: Path, bucket: str) -> None:
    config = tiny_config(tmp_path / "run", trials=2, techniques=["distill"], artifacts=bucket)
    stored = search(config, tiny)
    assert_whole(stored, 2, tmp_path)
    assert not (tmp_path / "run" / "artifacts").exists()
    names = [o["Key"] for o in boto3.client("s3").list_objects_v2(Bucket="models")["Contents"]]
    assert len(names) == 2 * 2 + 1 + 1  # a model and a recipe each, the teacher, and the mark of the study
    more = search(config.model_copy(update={"trials": 3}), tiny)
    assert_whole(more, 3, tmp_path)


def test_a_worker_needs_no_shared_folder(
    tiny: Registry, tmp_path: Path, bucket: str, postgresql: DatabaseServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgresql.database()
    config = tiny_config(tmp_path / "a", storage=url, trials=1, techniques=["distill"], artifacts=bucket)
    stored = search(config, tiny)
    stored.study.set_user_attr("config", {**stored.study.user_attrs["config"], "trials": 3})
    assert main(["worker", "tiny", "--storage", url, "--out", str(tmp_path / "b")]) == 0
    assert "the study has 3 of 3" in capsys.readouterr().out
    assert_whole(StoredStudy.load("tiny", url), 3, tmp_path)


def test_the_newest_of_a_name_is_read(tiny: Registry, tmp_path: Path, bucket: str) -> None:
    store, file = BucketArtifactStore(bucket), tmp_path / "file"
    file.write_bytes(b"content")
    with file.open("rb") as content:
        store.write("one", content)
        assert not content.closed
    with store.open_reader("one") as reader:
        assert reader.read() == b"content"
    assert store.written("one") is not None and store.written("none") is None
    store.remove("one")
    assert store.written("one") is None


def test_a_bucket_that_is_not_there_is_said(bucket: str) -> None:
    with pytest.raises(StorageError, match=r"--artifacts s3://others cannot be reached: .*404.*AWS_"):
        BucketArtifactStore("s3://others")


@pytest.mark.parametrize("url", ["bucket", "s3://", "s3://UPPER", "s3://../etc", "http://host/bucket"])
def test_what_is_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="--artifacts is"):
        make_config(None, {"artifacts": url})
