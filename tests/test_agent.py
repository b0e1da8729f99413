"""The agent's protocol, against the real process."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nas_edge import agent
from nas_edge.targets.campaign import reference_model

from .models import expanding_model, looping_model

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2 GHz
cpu family\t: 6
model\t\t: 85
stepping\t: 7
flags\t\t: fpu sse4_1 avx avx2 avx512f avx512_vnni amx_int8
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"


AGENT = [sys.executable, "-P", str(Path(agent.__file__).resolve())]


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        yield started
        started.kill()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """The agent as a lone file, away from the package."""
    with running(*AGENT) as started:
        yield started


def send(process: subprocess.Popen[bytes], raw: bytes) -> dict[str, Any] | None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(raw)
    process.stdin.flush()
    frame = agent.read_frame(process.stdout)
    return None if frame is None else frame[0]


def ask(process: subprocess.Popen[bytes], payload: bytes = b"", **header: Any) -> dict[str, Any]:
    reply = send(process, agent.pack(header, payload))
    assert reply is not None
    return reply


def test_a_model_is_loaded_visited_and_unloaded(process: subprocess.Popen[bytes]) -> None:
    hello = ask(process, command="hello")
    assert hello["ok"] and hello["threads"] == 1 and hello["provider"] == "CPUExecutionProvider"
    assert hello["cpu"] and hello["onnxruntime"] and len(hello["affinity"]) <= 1
    assert "CPUExecutionProvider" in hello["providers"]
    loaded = ask(process, reference_model(), command="load")
    assert loaded["ok"] and loaded["warm_up_runs"] >= 2 * agent.MIN_RUNS
    visit = ask(process, command="visit", id=loaded["id"], duration_ms=20)
    assert len(visit["wall_ms"]) == len(visit["cpu_ms"]) >= agent.MIN_RUNS
    assert all(0 < cpu <= wall * 1.1 + 0.01 for wall, cpu in zip(visit["wall_ms"], visit["cpu_ms"], strict=True))
    assert ask(process, command="unload", id=loaded["id"]) == {"ok": True}
    assert "no model has the id" in ask(process, command="visit", id=loaded["id"], duration_ms=20)["error"]
    assert process.stdin is not None
    process.stdin.write(agent.pack({"command": "quit"}))
    process.stdin.close()
    assert process.wait(timeout=10) == 0


def test_a_model_is_profiled_as_it_is_loaded(tmp_path: Path) -> None:
    """Its nodes are told in their order, visits go on without the profiler, and nothing is left on the disk."""
    with running("env", f"TMPDIR={tmp_path}", *AGENT) as process:
        loaded = ask(process, reference_model(), command="load", profile_ms=30)
        nodes = loaded["nodes"]
        assert loaded["ok"] and loaded["warm_up_runs"] >= 2 * agent.MIN_RUNS
        convolutions = [node for node in nodes if node[1] == "Conv"]
        assert convolutions and nodes[-1][1] in ("Gemm", "Flatten", "ReorderOutput", "FusedGemm")
        assert all(us > 0 for _, _, us, _, _ in nodes) and sum(node[2] for node in convolutions) > 5
        assert all(kind == "float" and len(shape) == 4 for node in convolutions for kind, shape in node[3:])
        assert ask(process, command="visit", id=loaded["id"], duration_ms=5)["ok"]
        assert not ask(process, b"no model", command="load", profile_ms=30)["ok"]
        assert "nodes" not in ask(process, reference_model(), command="load")
        assert list(tmp_path.glob("nas-edge-*")) == []


def test_a_model_that_runs_too_long_under_the_profiler_is_given_up(tmp_path: Path) -> None:
    with running("env", f"TMPDIR={tmp_path}", *AGENT, "--max-run-s=0.2") as process:
        reply = ask(process, looping_model(100_000), command="load", profile_ms=10)
        assert reply == {"ok": False, "error": "it was given up after 0.2 s, the time limit of the agent"}
        assert list(tmp_path.glob("nas-edge-*")) == []


@pytest.mark.parametrize("broken", ["tempfile.TemporaryDirectory", "json.load"])
def test_a_model_is_loaded_though_its_profile_cannot_be_kept(broken: str) -> None:
    code = (
        "import json, tempfile\ndef fails(*given, **named): raise OSError('no space left')\n"
        f"{broken} = fails\nfrom nas_edge import agent\nagent.main([])"
    )
    with running(sys.executable, "-c", code) as process:
        loaded = ask(process, reference_model(), command="load", profile_ms=10)
        assert loaded["ok"] and not loaded.get("nodes")
        assert ask(process, command="visit", id=loaded["id"], duration_ms=5)["ok"]


def event(name: str, us: int, kind: str = "Node", arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"cat": kind, "name": name, "dur": us, "args": {"op_name": "Conv", **(arguments or {})}}


def test_node_times_are_those_of_quick_runs() -> None:
    """Two nodes in five runs, of which two were disturbed; whatever else the profiler notes is left out."""
    shapes = {"input_type_shape": [{"float": [1, 3]}, {"int64": [2]}], "output_type_shape": [{"uint8": [1, 4]}]}
    events = [event("session_initialization", 999, "Session")]
    for first, second in ((10, 2), (50, 3), (11, 2), (12, 90), (70, 3)):
        events += [
            event("b_kernel_time", first, arguments=shapes),
            event("a_kernel_time", second),
            event("a_fence_before", 500),
        ]
    assert agent.node_times(events) == [
        ["b", "Conv", 11.0, ["float", [1, 3]], ["uint8", [1, 4]]],
        ["a", "Conv", 2.33, ["", []], ["", []]],
    ]


def test_what_is_not_onnx_is_refused_and_the_agent_lives_on(process: subprocess.Popen[bytes]) -> None:
    reply = ask(process, b"this is no model", command="load")
    assert not reply["ok"] and "INVALID_PROTOBUF" in reply["error"] and "\n" not in reply["error"]
    assert "unknown command 'dance'" in ask(process, command="dance")["error"]
    assert not ask(process, command="visit", id=1, duration_ms="long")["ok"]
    assert ask(process, command="hello")["ok"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (struct.pack(">I", agent.HEADER_LIMIT + 1), "is not within 1.."),
        (struct.pack(">I", 0), "a header of 0 bytes"),
        (struct.pack(">I", 4) + b"nope", "not JSON"),
        (struct.pack(">I", 2) + b"[]", "not a JSON object"),
        (agent.pack({"command": "load", "bytes": agent.MODEL_LIMIT + 1}), "above the limit"),
        (agent.pack({"command": "load", "bytes": -1}), "bytes is -1"),
        (agent.pack({"command": "load", "bytes": "9"}), "bytes is '9'"),
    ],
)
def test_a_broken_frame_is_named_and_ends_the_agent(process: subprocess.Popen[bytes], raw: bytes, reason: str) -> None:
    reply = send(process, raw)
    assert reply is not None and not reply["ok"] and reason in reply["error"]
    assert process.wait(timeout=10) == agent.REFUSED


@pytest.mark.parametrize("raw", [b"\0\0", struct.pack(">I", 100) + b"{", agent.pack({"bytes": 10})])
def test_a_truncated_frame_ends_the_agent(process: subprocess.Popen[bytes], raw: bytes) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(raw)
    process.stdin.close()
    frame = agent.read_frame(process.stdout)
    assert frame is not None and "ended" in frame[0]["error"]
    assert process.wait(timeout=10) == agent.REFUSED


def test_an_unknown_provider_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "nas_edge.agent", "--provider", "NoSuchProvider"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
    frame = agent.read_frame(io.BytesIO(done.stdout))
    assert done.returncode == agent.REFUSED and frame is not None
    assert "does not offer NoSuchProvider" in frame[0]["error"] and "CPUExecutionProvider" in frame[0]["error"]


def test_what_the_device_lacks_is_named() -> None:
    done = subprocess.run([sys.executable, "-I", "-S", AGENT[-1]], input=b"", capture_output=True, timeout=60)
    frame = agent.read_frame(io.BytesIO(done.stdout))
    assert done.returncode == agent.REFUSED and frame is not None
    assert frame[0]["missing"] == ["numpy", "onnxruntime"] and "lacks numpy and onnxruntime" in frame[0]["error"]


def test_more_threads_than_cores_are_refused() -> None:
    done = subprocess.run([*AGENT, "--threads=200"], input=b"", capture_output=True, timeout=60, check=False)
    frame = agent.read_frame(io.BytesIO(done.stdout))
    assert frame is not None and "threads is 200, but the agent may use" in frame[0]["error"]


def test_a_run_above_the_time_limit_is_given_up_and_the_agent_lives_on() -> None:
    with running(*AGENT, "--max-run-s=0.2") as process:
        start = time.monotonic()
        reply = ask(process, looping_model(100_000), command="load")
        assert reply == {"ok": False, "error": "it was given up after 0.2 s, the time limit of the agent"}
        assert time.monotonic() - start < 10
        assert ask(process, reference_model(), command="load")["ok"]


def test_a_slow_model_is_run_once_a_visit() -> None:
    with running(*AGENT, "--max-run-s=1.0") as process:
        loaded = ask(process, looping_model(1000), command="load")
        assert loaded["ok"] and loaded["run_ms"] > 0
        visit = ask(process, command="visit", id=loaded["id"], duration_ms=1)
        assert 1 <= len(visit["wall_ms"]) <= agent.MIN_RUNS


def test_an_agent_that_hangs_within_an_operator_ends_by_itself() -> None:
    with running(*AGENT, "--max-run-s=0.002") as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(agent.pack({"command": "load"}, expanding_model(60 << 20)))
        process.stdin.flush()
        assert process.wait(timeout=20) == 1
        assert b"Timeout" in process.stderr.read()


def test_an_agent_that_is_asked_nothing_ends_by_itself() -> None:
    code = "from nas_edge import agent; agent.MAX_IDLE_S = 0.3; agent.main([])"
    with running(sys.executable, "-c", code) as process:
        assert ask(process, command="hello")["ok"]
        assert process.wait(timeout=20) == 1


def test_a_model_above_the_memory_limit_is_refused_and_the_agent_lives_on() -> None:
    with running(*AGENT, "--max-memory-mb=500") as process:
        reply = ask(process, expanding_model(200 << 20), command="load")
        assert "it needs more memory than the agent may have (max_memory_mb)" in reply["error"]
        assert "\n" not in reply["error"]
        assert ask(process, reference_model(), command="load")["ok"]


def test_a_payload_above_the_memory_limit_ends_the_agent_with_a_reason() -> None:
    with running(*AGENT, "--max-memory-mb=300") as process:
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(agent.pack({"command": "load"}, b"x" * (400 << 20)))
        frame = agent.read_frame(process.stdout)
        assert frame is not None and "needs more memory than the agent may have" in frame[0]["error"]
        assert process.wait(timeout=20) == agent.REFUSED
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def test_frames_round_trip() -> None:
    stream = io.BytesIO(agent.pack({"command": "load", "name": "ü"}, b"abc") + agent.pack({"command": "quit"}))
    assert agent.read_frame(stream) == ({"command": "load", "name": "ü", "bytes": 3}, b"abc")
    assert agent.read_frame(stream) == ({"command": "quit"}, b"")
    assert agent.read_frame(stream) is None
    with pytest.raises(agent.ProtocolError, match="above the limit"):
        agent.pack({"name": "x" * agent.HEADER_LIMIT})


def test_cpu_names_and_instruction_sets() -> None:
    assert agent.cpu_name(CPUINFO) == "Some CPU @ 2 GHz (cpu family 6, model 85, stepping 7)"
    assert agent.instruction_sets(CPUINFO) == ["sse4_1", "avx", "avx2", "avx512f", "avx512_vnni", "amx_int8"]
    assert "0x41 0xd0b" in agent.cpu_name(ARM)
    assert agent.instruction_sets(ARM) == ["asimd", "asimddp"]


def test_the_agent_needs_nothing_of_the_package_and_no_heavy_library() -> None:
    code = (
        "import runpy, sys, json; runpy.run_path(sys.argv[1], run_name='agent');"
        "print(json.dumps(sorted(m.partition('.')[0] for m in sys.modules)))"
    )
    path = str(Path(agent.__file__).resolve())
    done = subprocess.run([sys.executable, "-P", "-c", code, path], capture_output=True, check=True, timeout=60)
    assert not set(json.loads(done.stdout)) & {"nas_edge", "torch", "onnx", "optuna"}
