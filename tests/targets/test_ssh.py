"""The ssh target against a real sshd, on a device without torch."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_edge import MeasurementError, ModelError, UserError
from nas_edge.plugins import load_plugins
from nas_edge.targets import client as client_module
from nas_edge.targets.address import parse_target
from nas_edge.targets.campaign import reference_model
from nas_edge.targets.local import LocalTarget
from nas_edge.targets.ssh import SshOptions, SshTarget, last_reason, ssh_command

from ..models import expanding_model
from ..ssh_device import SshDevice, needs_sshd, ssh_device


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshDevice]:
    with ssh_device(tmp_path_factory.mktemp("device")) as running:
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(reference_model())
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SshTarget, "pauses_s", (0.0, 0.1))


@needs_sshd
def test_the_device_has_no_torch(device: SshDevice) -> None:
    code = "import numpy, onnxruntime, importlib.util as u; assert not u.find_spec('torch') and not u.find_spec('onnx')"
    subprocess.run([device.python, "-I", "-c", code], check=True)


@needs_sshd
def test_a_model_is_measured_as_it_is_here(device: SshDevice, model: Path) -> None:
    target = parse_target(load_plugins().targets, device.address)
    there, here = target.measure(model, 0.5), LocalTarget(processes=1).measure(model, 0.5)
    assert 0.4 < there.p50_ms / here.p50_ms < 2.5
    assert there.target == target.name
    assert there.fingerprint.keys() == here.fingerprint.keys()
    assert there.fingerprint["cpu"] == here.fingerprint["cpu"]


@needs_sshd
def test_the_agent_is_copied_once(device: SshDevice) -> None:
    SshTarget.from_address(device.address).fingerprint()
    (copied,) = device.cache.iterdir()
    before = copied.stat()
    SshTarget.from_address(device.address).fingerprint()
    after = next(device.cache.iterdir()).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    copied.unlink()
    SshTarget.from_address(device.address).fingerprint()
    assert [path.name for path in device.cache.iterdir()] == [copied.name]


@needs_sshd
@pytest.mark.usefixtures("impatient")
def test_a_dropped_link_is_made_again_and_costs_no_visit(device: SshDevice, model: Path) -> None:
    counts = []

    def drop() -> None:
        counts.append(len(campaign.visits[0]))
        if len(counts) in (2, 4):
            device.drop_links()

    with SshTarget.from_address(device.address).campaign() as campaign:
        campaign.add(model)
        campaign.run(0.0, drop, min_rounds=6)
    assert counts == [1, 2, 3, 4, 5, 6]


@needs_sshd
@pytest.mark.usefixtures("impatient")
def test_a_hung_run_ends_at_the_time_limit_and_is_tried_again(
    device: SshDevice, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SILENCE_S", 1.0)
    stopped: list[int] = []
    with SshTarget.from_address(device.address).campaign() as campaign:
        campaign.add(model)
        campaign.run(0.0, lambda: stopped.extend([] if stopped else device.stop_agents()), min_rounds=3)
    assert len(campaign.visits[0]) == 3
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGKILL)


@needs_sshd
@pytest.mark.usefixtures("impatient")
def test_a_device_that_is_gone_is_reported_in_one_line(tmp_path: Path, model: Path) -> None:
    with ssh_device(tmp_path) as device:
        target = SshTarget.from_address(device.address)
        target.fingerprint()
        device.switch_off()
        with pytest.raises(MeasurementError) as caught:
            target.measure(model, 0.2)
        assert "failed 3 times in a row" in str(caught.value)
        assert "Connection refused" in str(caught.value) and "\n" not in str(caught.value)
        fresh = SshTarget.from_address(device.address)  # one that never answered is not asked again
        with pytest.raises(UserError, match=r"does not answer: .*Connection refused.*must work without a question"):
            fresh.measure(model, 0.2)


@needs_sshd
def test_what_the_device_refuses_is_said_in_one_line(device: SshDevice, model: Path, tmp_path: Path) -> None:
    for option, reason in (
        ("provider=NoSuchProvider", r"onnxruntime here does not offer NoSuchProvider; it offers .*CPUExecutionProv"),
        ("threads=200", "threads is 200, but the agent may use"),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            SshTarget.from_address(f"{device.address}&{option}").fingerprint()
        assert "\n" not in str(caught.value)
    large = tmp_path / "large.onnx"
    large.write_bytes(expanding_model(200 << 20))
    with pytest.raises(ModelError, match="needs more memory than the agent may have"):
        SshTarget.from_address(f"{device.address}&max_memory_mb=500").measure_many([model, large], 0.1)


@needs_sshd
def test_a_device_that_cannot_run_the_agent_says_why(device: SshDevice, tmp_path: Path) -> None:
    plain = f"ssh://{device.place}?config={device.folder}/ssh_config"
    with pytest.raises(UserError, match=r"does not answer: it ended \(.*no-such-python.*not found\)"):
        SshTarget.from_address(f"{plain}&python=no-such-python").fingerprint()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    unknown = SshTarget.from_address(f"ssh://{device.place}?identity={tmp_path}/key")
    with pytest.raises(UserError, match="Host key verification failed"):
        unknown.fingerprint()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ssh", "'' is no user@host"),
        ("ssh://-oProxyCommand=touch", "is no user@host"),
        ("ssh://-l@board", "is no user@host"),
        ("ssh://me@-board", "is no user@host"),
        ("ssh://me@board;reboot", "is no user@host"),
        ("ssh://me@bo ard", "is no user@host"),
        ("ssh://$(reboot)@board", "is no user@host"),
        ("ssh://me@board/path", "is no user@host"),
        ("ssh://me:secret@board", "is no user@host"),
        ("ssh://me@board:", "port is ''"),
        ("ssh://me@board:0", "port is '0'"),
        ("ssh://me@board:65536", "port is '65536'"),
        ("ssh://board?python=python3 -c x", "python is 'python3 -c x'"),
        ("ssh://board?python=-c", "python is '-c'"),
        ('ssh://board?python="', "python is"),
        ("ssh://board?identity=/no/such/key", "'/no/such/key' is no file"),
        ("ssh://board?key=x", "ssh has no option 'key'; it has threads, provider"),
    ],
)
def test_odd_addresses_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_target(load_plugins().targets, text)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_names_are_canonical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SshTarget.from_address("ssh://board?processes=3&threads=1&python=python3").name == "ssh://board"
    assert SshTarget.from_address("ssh://me@board:2222?threads=4").name == "ssh://me@board:2222?threads=4"
    (tmp_path / "a key").touch()
    monkeypatch.chdir(tmp_path)
    name = SshTarget.from_address("ssh://board?identity=a%20key").name
    assert name == f"ssh://board?identity={tmp_path}/a%20key"
    assert SshTarget.from_address(name).name == name


def test_the_command_forwards_nothing_and_ends_its_options_before_the_host() -> None:
    command = ssh_command("me@[fe80::1%eth0]:2222", SshOptions())
    assert command[-6:] == ["-l", "me", "-p", "2222", "--", "fe80::1%eth0"]
    assert {"BatchMode=yes", "ForwardAgent=no", "ClearAllForwardings=yes"} <= set(command)
    assert not [setting for setting in command if "StrictHostKeyChecking" in setting]


def test_why_an_installation_failed() -> None:
    assert last_reason("a\nERROR: No matching distribution\n\n") == "ERROR: No matching distribution"
    assert "apt install python3-venv" in last_reason("because ensurepip is not available.\nFailing command: x")
    assert last_reason("") == "no reason given"
