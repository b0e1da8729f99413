"""`nas-edge targets` and `nas-edge agent`."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_edge import agent
from nas_edge.cli.targets import in_words
from nas_edge.targets.campaign import reference_model
from nas_edge.targets.names import names_file

from ..ssh_device import SshDevice, needs_sshd, ssh_device
from ..studies import NAS_EDGE
from .command import environment, run, run_json


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshDevice]:
    with ssh_device(tmp_path_factory.mktemp("device")) as running:
        yield running


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_the_kinds_and_this_machine_are_listed() -> None:
    listed = run_json("targets")
    assert {"local", "ssh"} <= {row["name"] for row in listed["targets"]}
    assert listed["names"] == [] and listed["problem"] is None
    shown = run("targets").stdout
    assert listed["local"]["cpu"] in shown and "ssh://user@host" in shown


def test_a_name_is_added_shown_used_and_removed(tmp_path: Path) -> None:
    added = run_json("targets", "add", "here", "local?processes=1&threads=1")
    assert added["name"] == "here" and added["address"] == "local?processes=1"
    assert added["fingerprint"]["cpu"] in added["device"]
    assert run_json("targets")["names"] == [{k: added[k] for k in ("name", "address", "device")}]
    assert "local?processes=1" in run("targets").stdout
    model = tmp_path / "model.onnx"
    model.write_bytes(reference_model())
    measured = run_json("measure", str(model), "--target", "here", "--seconds", "0.2")
    assert measured["target"] == "local?processes=1" and measured["p50_ms"] > 0
    assert "did you mean 'here'" in run("measure", str(model), "--target", "hree").stderr
    assert run_json("targets", "remove", "here") == {"removed": "here", "address": "local?processes=1"}
    assert run_json("targets")["names"] == []
    gone = run("targets", "remove", "here")
    assert gone.returncode == 2 and gone.stderr == "error: unknown target 'here'; known: none\n"


@pytest.mark.parametrize(
    ("name", "address", "reason"),
    [
        ("a.b", "local", "the name 'a.b' will not do"),
        ("local", "local", "'local' is a kind of target already"),
        ("board", "shh://board", "unknown target 'shh'; did you mean 'ssh'?"),
        ("board", "ssh://-board", "is no user@host"),
        ("board", "local?provider=NoSuchProvider", "does not offer NoSuchProvider; it offers"),
    ],
)
def test_what_cannot_be_added_is_said_in_one_line(name: str, address: str, reason: str) -> None:
    done = run("targets", "add", name, address)
    assert done.returncode == 2 and done.stdout == ""
    assert reason in done.stderr and done.stderr.count("\n") == 1
    assert not names_file().exists()


@needs_sshd
def test_a_device_is_added_and_measured(device: SshDevice, tmp_path: Path) -> None:
    added = run_json("targets", "add", "board", device.address, "--install")  # nothing is missing
    assert added["address"].startswith(f"ssh://{device.place}?processes=1&python={device.python}")
    assert not (device.folder / "data").exists()
    model = tmp_path / "model.onnx"
    model.write_bytes(reference_model())
    assert run_json("measure", str(model), "--target", "board", "--seconds", "0.2")["target"] == added["address"]
    refused = run("measure", str(model), "--target", "board?provider=NoSuchProvider")
    assert refused.returncode == 2 and "does not offer NoSuchProvider" in refused.stderr


@needs_sshd
def test_what_a_device_lacks_is_named_with_the_remedy(device: SshDevice) -> None:
    bare = device.folder / "bare"
    subprocess.run([device.python, "-m", "venv", "--without-pip", str(bare)], check=True)
    address = f"ssh://{device.place}?python={bare}/bin/python&config={device.folder}/ssh_config"
    lacking = run("targets", "add", "board", address)
    assert lacking.returncode == 2 and lacking.stdout == ""
    assert "lacks numpy and onnxruntime; `nas-edge targets add board 'ssh://" in lacking.stderr
    assert "--install` installs them" in lacking.stderr
    offline = run("targets", "add", "board", address, "--install")  # the device has no package index
    assert offline.returncode == 2
    assert "the installation failed: ERROR: No matching distribution found for numpy" in offline.stderr
    assert not names_file().exists()


def test_the_agent_is_a_command() -> None:
    command = (*NAS_EDGE, "agent", "--threads", "1", "--max-model-mb", "1")
    request = agent.pack({"command": "hello"}) + agent.pack({"command": "load", "bytes": 2 << 20})
    done = subprocess.run(command, input=request, capture_output=True, env=environment(None), timeout=60)
    replies = io.BytesIO(done.stdout)
    hello, refused = agent.read_frame(replies), agent.read_frame(replies)
    assert hello is not None and hello[0]["ok"] and hello[0]["threads"] == 1
    assert refused is not None and "above the limit of 1048576" in refused[0]["error"]
    assert done.returncode == 2 and replies.read() == b""


def test_a_device_in_words() -> None:
    fingerprint = {"cpu": "Some CPU", "threads": 1, "onnxruntime": "1.2", "provider": "P"}
    assert in_words(fingerprint) == "Some CPU, 1 thread, onnxruntime 1.2, P"
    assert in_words({**fingerprint, "threads": 4}) == "Some CPU, 4 threads, onnxruntime 1.2, P"
    assert json.dumps(in_words({}))
