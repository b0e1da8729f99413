"""The local target, and its client against processes that misbehave."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from nas_edge import MeasurementError, ModelError, UserError, agent
from nas_edge.plugins import load_plugins
from nas_edge.targets.address import Address, differences, fingerprint_key, parse_target, parse_threads
from nas_edge.targets.campaign import reference_model
from nas_edge.targets.client import AgentClient, AgentRefusal
from nas_edge.targets.local import LocalTarget

AGENT = [sys.executable, "-P", str(Path(agent.__file__).resolve())]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(reference_model())
    return path


def test_addresses() -> None:
    assert Address.parse("ssh://pi@board:2222?threads=4") == Address("ssh", "pi@board:2222", {"threads": "4"})
    targets = load_plugins().targets
    assert parse_target(targets, "local").name == "local"
    assert parse_target(targets, "local?threads=1").name == "local"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("locl", "did you mean 'local'"),
        ("local?threads=0", "threads is '0'; give a whole number from 1"),
        ("local?threads=two", "threads is 'two'"),
        ("local?threads=200", "this process may use"),
        ("local?cores=2", "no option 'cores'"),
        ("local?threads", "threads"),
        ("local?threads=1&threads=2", "given twice"),
        ("local://host", "takes no host"),
        ("", "unknown target ''"),
    ],
)
def test_wrong_addresses_are_named_with_the_remedy(text: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_target(load_plugins().targets, text)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_threads_are_a_number() -> None:
    assert parse_threads("2") == 2
    with pytest.raises(UserError, match="threads is '²'"):
        parse_threads("²")


def test_fingerprints() -> None:
    first = {"cpu": "A", "threads": 1, "load": 0.1, "affinity": [1]}
    assert fingerprint_key(first) == fingerprint_key({"affinity": [0], "load": 3.0, "threads": 1, "cpu": "A"})
    assert fingerprint_key(first) != fingerprint_key({**first, "threads": 2})
    assert differences(first, {**first, "threads": 2, "load": 9}) == ["threads 1, here 2"]
    assert differences(first, first) == []


def test_a_model_is_measured(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    target = LocalTarget()
    start = time.monotonic()
    result = target.measure(model, 0.6)
    assert time.monotonic() - start < 30
    assert 0 < result.low_ms <= result.p50_ms <= result.high_ms
    assert result.p50_ms <= result.p90_ms and result.samples >= 9
    assert result.target == "local"
    assert result.fingerprint["threads"] == 1
    assert fingerprint_key(result.fingerprint) == fingerprint_key(target.fingerprint())


def test_twice_the_work_takes_longer(model: Path, tmp_path: Path) -> None:
    """Interleaved, so that even a busy machine tells them apart."""
    import onnx

    graph = onnx.load(model)
    graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 48
    graph.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 48
    larger = tmp_path / "larger.onnx"
    onnx.save(graph, larger)
    small, large = LocalTarget().measure_many([model, larger], 0.6)
    assert 3 < large.p50_ms / small.p50_ms < 27  # 9 times the pixels


def test_what_is_not_onnx_is_a_model_error_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.onnx"
    path.write_text("no model")
    with pytest.raises(ModelError) as caught:
        LocalTarget().measure(path, 0.1)
    assert str(path) in str(caught.value) and "INVALID_PROTOBUF" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="No such file"):
        LocalTarget().measure(tmp_path / "missing.onnx", 0.1)


def test_a_removed_working_folder_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert LocalTarget().fingerprint()["architecture"]


def test_an_agent_killed_in_a_visit_is_an_error_and_no_hang() -> None:
    with AgentClient(AGENT) as client:
        client.hello()
        identity = client.load(reference_model())
        threading.Timer(0.5, os.kill, (client.pid, signal.SIGKILL)).start()
        start = time.monotonic()
        with pytest.raises(MeasurementError, match=r"the agent on the device failed: it ended.*measure again"):
            for _ in range(100):
                client.visit(identity, 100)
        assert time.monotonic() - start < 5
        with pytest.raises(MeasurementError):
            client.hello()


def test_a_silent_agent_is_killed() -> None:
    with AgentClient([sys.executable, "-c", "import time; time.sleep(60)"]) as client:
        start = time.monotonic()
        with pytest.raises(MeasurementError, match="gave no answer in time"):
            client.ask({"command": "hello"}, timeout_s=0.5)
        assert time.monotonic() - start < 5
        with pytest.raises(ProcessLookupError):
            os.kill(client.pid, 0)


def test_an_agent_that_takes_nothing_is_killed() -> None:
    with (
        AgentClient([sys.executable, "-c", "import time; time.sleep(60)"]) as client,
        pytest.raises(MeasurementError, match="took nothing in time"),
    ):
        client.ask({"command": "load"}, b"x" * (4 << 20), timeout_s=0.5)


@pytest.mark.parametrize("answer", ["hello, I am a login banner", "", "\\x00\\x00\\x00\\x04nope"])
def test_garbage_instead_of_frames_is_an_error(answer: str) -> None:
    code = f"import sys; sys.stdin.buffer.read(1); sys.stdout.write('{answer}'); sys.exit('boom')"
    with (
        AgentClient([sys.executable, "-c", code]) as client,
        pytest.raises(MeasurementError, match="the agent on the device failed"),
    ):
        client.hello()


def test_an_agent_that_cannot_start_says_why() -> None:
    with (
        AgentClient([sys.executable, "-c", "raise SystemExit('no onnxruntime here')"]) as client,
        pytest.raises(MeasurementError, match="no onnxruntime here"),
    ):
        client.hello()
    with pytest.raises(MeasurementError, match="did not start"):
        AgentClient(["/no/such/python"])


def test_a_refusal_leaves_the_agent_alive() -> None:
    with AgentClient(AGENT) as client, pytest.raises(AgentRefusal, match="no model has the id 9"):
        client.visit(9, 10)
        assert client.hello()["threads"] == 1
