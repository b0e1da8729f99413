"""The client of agents, against processes that misbehave, and links that are lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from nas_edge import MeasurementError, agent
from nas_edge.targets import client as client_module
from nas_edge.targets.campaign import reference_model
from nas_edge.targets.client import AgentClient, AgentRefusal
from nas_edge.targets.process import HAVE, WANT, AgentProcess, LinkLost

AGENT = [sys.executable, "-P", str(Path(agent.__file__).resolve())]


class Started:
    """Starts agents, and knows those that it started."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments
        self.processes: list[AgentProcess] = []

    def __call__(self) -> AgentProcess:
        self.processes.append(AgentProcess([*AGENT, *self.arguments]))
        return self.processes[-1]

    def kill(self) -> None:
        os.kill(self.processes[-1].pid, signal.SIGKILL)


def test_an_agent_killed_in_a_visit_is_an_error_and_no_hang() -> None:
    start = Started()
    with AgentClient(start) as client:
        identity = client.load(reference_model())
        threading.Timer(0.3, start.kill).start()
        began = time.monotonic()
        with pytest.raises(MeasurementError, match=r"the agent on the device failed: it ended.*measure again"):
            for _ in range(100):
                client.visit(identity, 100)
        assert time.monotonic() - began < 5


def test_a_killed_agent_is_replaced_and_loads_what_it_needs() -> None:
    start = Started()
    with AgentClient(start, pauses_s=(0.0,)) as client:
        hello = client.hello()
        first, second = client.load(reference_model()), client.load(reference_model())
        for _ in range(3):  # the tries are counted anew after each success
            start.kill()
            wall_ms, cpu_ms = client.visit(second, 10)
            assert len(wall_ms) == len(cpu_ms) >= agent.MIN_RUNS
        assert len(start.processes) == 4
        start.kill()
        client.unload(first)
        with pytest.raises(KeyError):
            client.visit(first, 10)
        assert client.hello()["cpu"] == hello["cpu"]


def test_a_model_is_profiled_once_and_what_was_seen_outlives_the_agent() -> None:
    start = Started()
    with AgentClient(start, pauses_s=(0.0,)) as client:
        profiled, plain = client.load(reference_model(), profile_ms=10.0), client.load(reference_model())
        seen = client.nodes(profiled)
        assert seen and client.nodes(plain) == []
        start.kill()
        assert client.visit(profiled, 10)[0] and client.nodes(profiled) == seen
        client.unload(profiled)
        assert client.nodes(profiled) == []


def test_an_agent_that_keeps_dying_is_reported_after_the_last_pause() -> None:
    start = Started()
    with AgentClient(start, pauses_s=(0.0, 0.1)) as client:
        client.hello()
        start.arguments = ("--no-such-option",)
        start.kill()
        with pytest.raises(MeasurementError) as caught:
            client.load(reference_model())
    assert "failed 3 times in a row" in str(caught.value) and "no-such-option" in str(caught.value)
    assert "\n" not in str(caught.value) and len(start.processes) == 3


def test_another_device_under_the_same_address_is_no_replacement() -> None:
    start = Started()
    with AgentClient(start, pauses_s=(0.0,)) as client:
        client.hello()
        start.arguments = ("--provider=AzureExecutionProvider",)
        start.kill()
        with pytest.raises(MeasurementError, match=r"in the middle \(provider CPUExecutionProvider, here Azure"):
            client.load(reference_model())


def test_a_hung_agent_is_replaced_after_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SILENCE_S", 0.5)
    start = Started()
    with AgentClient(start, pauses_s=(0.0,)) as client:
        identity = client.load(reference_model())
        os.kill(start.processes[0].pid, signal.SIGSTOP)
        began = time.monotonic()
        assert client.visit(identity, 10)[0]
        assert 0.5 < time.monotonic() - began < 10
        with pytest.raises(ProcessLookupError):
            os.kill(start.processes[0].pid, 0)


def test_a_model_above_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "MODEL_LIMIT", 3 << 20)
    start = Started()
    with AgentClient(start) as client, pytest.raises(AgentRefusal, match=r"has 4 MB, and the agent .* at most 3"):
        client.load(b"x" * (4 << 20))
    assert not start.processes


def test_a_refused_payload_is_a_refusal_though_the_pipe_breaks() -> None:
    with (
        AgentProcess([*AGENT, "--max-model-mb=1"]) as process,
        pytest.raises(AgentRefusal, match="a payload of 8388608 bytes is above the limit of 1048576"),
    ):
        process.ask({"command": "load"}, b"x" * (8 << 20), timeout_s=20)


def test_a_silent_agent_is_killed() -> None:
    with AgentProcess([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        start = time.monotonic()
        with pytest.raises(LinkLost, match="gave no answer in time"):
            process.ask({"command": "hello"}, timeout_s=0.5)
        assert time.monotonic() - start < 5
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)
        with pytest.raises(LinkLost, match="it is closed"):
            process.ask({"command": "hello"}, timeout_s=0.5)


def test_an_agent_that_takes_nothing_is_killed() -> None:
    with (
        AgentProcess([sys.executable, "-c", "import time; time.sleep(60)"]) as process,
        pytest.raises(LinkLost, match="took nothing in time"),
    ):
        process.ask({"command": "load"}, b"x" * (4 << 20), timeout_s=0.5)


@pytest.mark.parametrize("answer", ["hello, I am a login banner", "", "\\x00\\x00\\x00\\x04nope"])
def test_garbage_instead_of_frames_is_an_error(answer: str) -> None:
    code = f"import sys; sys.stdin.buffer.read(1); sys.stdout.write('{answer}'); sys.exit('boom')"
    with (
        AgentProcess([sys.executable, "-c", code]) as process,
        pytest.raises(LinkLost, match="the agent on the device failed"),
    ):
        process.ask({"command": "hello"}, timeout_s=20)


def test_an_agent_that_cannot_start_says_why() -> None:
    with (
        AgentProcess([sys.executable, "-c", "raise SystemExit('no onnxruntime here')"]) as process,
        pytest.raises(LinkLost, match="no onnxruntime here"),
    ):
        process.ask({"command": "hello"}, timeout_s=20)
    with pytest.raises(LinkLost, match="did not start"):
        AgentProcess(["/no/such/python"])


def test_a_refusal_leaves_the_agent_alive() -> None:
    with AgentProcess(AGENT) as process:
        with pytest.raises(AgentRefusal, match="no model has the id 9"):
            process.ask({"command": "visit", "id": 9, "duration_ms": 10}, timeout_s=20)
        assert process.ask({"command": "hello"}, timeout_s=20)["threads"] == 1


def test_a_program_is_delivered_after_noise_where_it_is_wanted() -> None:
    code = (
        f"import sys; print('welcome'); print({WANT.decode()!r}, flush=True); got = sys.stdin.buffer.read(5);"
        f"print({HAVE.decode()!r}, flush=True); sys.exit(got.decode())"
    )
    with AgentProcess([sys.executable, "-c", code]) as process:
        process.deliver(b"12345", timeout_s=20)
        with pytest.raises(LinkLost, match=r"it ended \(12345\)"):
            process.ask({"command": "hello"}, timeout_s=20)


def test_endless_noise_is_given_up() -> None:
    with (
        AgentProcess([sys.executable, "-c", "while True: print('welcome')"]) as process,
        pytest.raises(LinkLost, match="print too much"),
    ):
        process.deliver(b"12345", timeout_s=20)
