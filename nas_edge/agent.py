"""Measures ONNX files on a device: the standard library, numpy and onnxruntime only (Python 3.9 or newer).

Runs as `python -m nas_edge.agent` or as a lone file, and speaks frames over standard input and output; it opens no
port. A frame is a 4-byte big-endian length, a JSON header of that many bytes, and `header["bytes"]` bytes of payload
(none where the key is missing). Each request names a `command`; each reply holds `ok`, and `error` where it is false.

    hello                    -> fingerprint of the device
    load (payload: ONNX)     -> id, run_ms, warm_up_runs; the error where ONNX Runtime refuses the model
      with profile_ms        -> and nodes: what ONNX Runtime's profiler says of each node that ran, in their order:
                                name, operator, microseconds, type and shape of its first input and first output
    visit id duration_ms     -> wall_ms, cpu_ms: the times of each run of this visit
    unload id
    quit

A model that is too large, runs too long or needs too much memory is refused. The agent ends by itself when it hangs,
or when nothing was asked for `MAX_IDLE_S`: the other side may be gone without a word.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib.util
import json
import os
import platform
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

HEADER_LIMIT = 1 << 20
MODEL_LIMIT = 512 << 20
MAX_RUN_S = 30.0
MAX_IDLE_S = 900.0
MAX_REASON = 2000  # characters
REFUSED = 2  # the exit status after something that the other side has to mend
HUNG = 4  # so many times the limit of a run, and the agent ends
MIN_RUNS = 3
MAX_RUNS = 2000  # a visit's reply stays far below the header limit
WARM_UP_S = 0.5
MAX_PROFILED_RUNS = 200
QUICKEST = 0.6  # of a node's times, which a burst of other work did not reach
LENGTH = struct.Struct(">I")
FLAGS = (  # what ONNX Runtime's kernels choose their code by
    "sse4_1 avx avx2 fma avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 "
    "amx_bf16 neon asimd asimddp asimdhp i8mm bf16 sve sve2 sme"
)
NEEDED = ("numpy", "onnxruntime")
KERNEL_EVENT = "_kernel_time"  # how the profiler's names of what a node itself took end
# What would change the threads of the process behind the session options' back.
NEUTRAL = ("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "ORT_")
NUMPY_TYPES = {"float": "float32", "double": "float64"}  # where they differ from ONNX's names
ELEMENT_TYPES = ("float", "double", "float16", "uint8", "int8", "int32", "int64", "bool")


class ProtocolError(Exception):
    """The other side sent something that is no frame."""


def read_exactly(stream: IO[bytes], count: int) -> bytes:
    """`count` bytes, or `ProtocolError` where the stream ends early."""
    data = bytearray()
    while len(data) < count:
        part = stream.read(min(count - len(data), 1 << 20))
        if not part:
            raise ProtocolError(f"the stream ended {count - len(data)} of {count} bytes early")
        data += part
    return bytes(data)


def parse_header(raw: bytes) -> dict[str, Any]:
    """The header of a frame; raises `ProtocolError` where it is no JSON object."""
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise ProtocolError("the header is not a JSON object")
    return header


def payload_length(header: dict[str, Any], limit: int = MODEL_LIMIT) -> int:
    """How many bytes follow the header; raises `ProtocolError` where that is no length or above `limit`."""
    length = header.get("bytes", 0)
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise ProtocolError(f"bytes is {length!r}, not a length")
    if length > limit:
        raise ProtocolError(f"a payload of {length} bytes is above the limit of {limit}")
    return length


def header_length(raw: bytes) -> int:
    """The length that a frame starts with; raises `ProtocolError` where it is above `HEADER_LIMIT`."""
    length: int = LENGTH.unpack(raw)[0]
    if not 0 < length <= HEADER_LIMIT:
        raise ProtocolError(f"a header of {length} bytes is not within 1..{HEADER_LIMIT}")
    return length


def pack(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """A frame."""
    if payload:
        header = {**header, "bytes": len(payload)}
    raw = json.dumps(header).encode()
    if len(raw) > HEADER_LIMIT:
        raise ProtocolError(f"a header of {len(raw)} bytes is above the limit of {HEADER_LIMIT}")
    return LENGTH.pack(len(raw)) + raw + payload


def read_frame(stream: IO[bytes], limit: int = MODEL_LIMIT) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, or None at the end of the stream."""
    first = stream.read(1)
    if not first:
        return None
    length = header_length(first + read_exactly(stream, LENGTH.size - 1))
    header = parse_header(read_exactly(stream, length))
    return header, read_exactly(stream, payload_length(header, limit))


def _read_text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().strip("\0\n ") or None
    except OSError:
        return None


def read_cpuinfo() -> str:
    """What Linux says of the processor; empty elsewhere."""
    return _read_text("/proc/cpuinfo") or ""


def _first_core(cpuinfo: str) -> dict[str, str]:
    lines = (line.partition(":") for line in reversed(cpuinfo.splitlines()))
    return {key.strip(): value.strip() for key, _, value in lines}


def cpu_name(cpuinfo: str) -> str:
    """The CPU's model: from /proc/cpuinfo, else the board's name or its implementer and part (Arm)."""
    fields = _first_core(cpuinfo)
    if fields.get("model name"):
        steps = [f"{key} {fields[key]}" for key in ("cpu family", "model", "stepping") if key in fields]
        return f"{fields['model name']} ({', '.join(steps)})" if steps else fields["model name"]
    parts = [fields[key] for key in ("CPU implementer", "CPU part") if key in fields]
    board = _read_text("/proc/device-tree/model")
    return " ".join(filter(None, [board, *parts])) or platform.processor() or "unknown"


def instruction_sets(cpuinfo: str) -> list[str]:
    """Those of `FLAGS` that the CPU has, from /proc/cpuinfo."""
    fields = _first_core(cpuinfo)
    present = (fields.get("flags") or fields.get("Features") or "").split()
    return [flag for flag in FLAGS.split() if flag in present]


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def pin(threads: int) -> list[int]:
    """Bind this process to its last `threads` cores (the first serves interrupts), and say which; empty: it cannot."""
    chosen = cores()[-threads:]
    try:
        os.sched_setaffinity(0, chosen)
    except (AttributeError, OSError):
        return []
    return chosen


def limit_memory(megabytes: int) -> None:
    """Let this process have so much for its data (0: three quarters of the memory), where the system can see to it."""
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20 or total * 3 // 4, hard))


def reason(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error)[:MAX_REASON].split()) or type(error).__name__
    if isinstance(error, MemoryError) or "Failed to allocate memory" in text or "bad_alloc" in text:
        return f"it needs more memory than the agent may have (max_memory_mb): {text}"
    return text


def shown(value: Any) -> str:
    """A value of a request, for a message."""
    text = repr(value)
    return text if len(text) <= MAX_REASON else text[:MAX_REASON] + " ..."


class Agent:
    """Holds the loaded models, and answers one request at a time."""

    def __init__(self, threads: int, provider: str, max_run_s: float = MAX_RUN_S) -> None:
        import onnxruntime

        self._offered = onnxruntime.get_available_providers()
        if provider not in self._offered:
            raise ValueError(f"onnxruntime here does not offer {provider}; it offers {', '.join(self._offered)}")
        if threads > len(cores()):
            raise ValueError(f"threads is {threads}, but the agent may use {len(cores())} cores; give at most that")
        self.max_run_s = max_run_s
        self._runtime = onnxruntime
        self._threads = threads
        self._provider = provider
        self._affinity = pin(threads)
        self._models: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._next = 0

    def hello(self) -> dict[str, Any]:
        cpuinfo = read_cpuinfo()
        return {
            "cpu": cpu_name(cpuinfo),
            "architecture": platform.machine(),
            "instruction_sets": instruction_sets(cpuinfo),
            "cores": os.cpu_count(),
            "onnxruntime": self._runtime.__version__,
            "provider": self._provider,
            "providers": self._offered,
            "threads": self._threads,
            "affinity": self._affinity,
            "governor": _read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        }

    def load(self, model: bytes, profile_ms: float = 0.0) -> dict[str, Any]:
        """Load a model and warm it up; with `profile_ms`, under ONNX Runtime's profiler for about so long.

        The profiler slows short nodes down and rounds to microseconds: its times compare nodes, and add up to no
        latency. Later visits run without it. There are no `nodes` where its file cannot be written.
        """
        folder = _temporary_folder() if profile_ms else None
        if folder is None:
            session = self._session(model)
            return self._ready(session, _inputs(session))
        with folder:
            session = self._session(model, os.path.join(folder.name, "runs"))  # noqa: PTH118
            try:
                inputs, end = _inputs(session), time.perf_counter() + profile_ms / 1e3
                ready = self._ready(session, inputs)
                self._run_until(end, session, inputs)
            finally:
                file = session.end_profiling()
            return {**ready, "nodes": _read_profile(file)}

    def _ready(self, session: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        """Warm a session up, and keep it."""
        with self._within(self.max_run_s) as options:
            start = time.perf_counter()
            session.run(None, inputs, options)
            first_s = time.perf_counter() - start
        runs = 1 if first_s > WARM_UP_S else 1 + _warm_up(session, inputs)
        self._next += 1
        self._models[self._next] = session, inputs
        return {"id": self._next, "run_ms": first_s * 1e3, "warm_up_runs": runs}

    def _run_until(self, end: float, session: Any, inputs: dict[str, Any]) -> None:
        """Run a model that is warm until a time of `time.perf_counter`."""
        runs = 0
        with self._within(self.max_run_s) as options:
            while runs < MAX_PROFILED_RUNS and time.perf_counter() < end:
                session.run(None, inputs, options)
                runs += 1

    def _session(self, model: bytes, profile_prefix: str | None = None) -> Any:
        options = self._runtime.SessionOptions()
        if profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile_prefix
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = self._runtime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self._runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4
        own: dict[str, str] = {}
        if self._provider == "XNNPACKExecutionProvider":  # it has threads of its own, and ours would spin beside them
            own["intra_op_num_threads"] = str(self._threads)
            options.intra_op_num_threads = 1
        elif self._threads > 1 and len(self._affinity) == self._threads:
            # Left to the system, a worker often shares the core of the thread that waits for it.
            *workers, own_core = self._affinity
            os.sched_setaffinity(0, [own_core])
            theirs = ";".join(str(core + 1) for core in workers)  # onnxruntime counts from 1
            options.add_session_config_entry("session.intra_op_thread_affinities", theirs)
        session = self._runtime.InferenceSession(model, options, providers=[(self._provider, own)])
        if session.get_providers()[0] != self._provider:
            raise ValueError(f"onnxruntime cannot start {self._provider} here, and would fall back to another provider")
        return session

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[Any]:
        """Options for runs that are given up so many seconds from now, at the end of an operator."""
        options = self._runtime.RunOptions()
        options.log_severity_level = 4
        timer = threading.Timer(seconds, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            yield options
        except Exception:
            if options.terminate:
                raise TimeoutError(f"it was given up after {seconds:g} s, the time limit of the agent") from None
            raise
        finally:
            timer.cancel()

    def visit(self, model_id: int, duration_ms: float) -> dict[str, Any]:
        """Run a model for about `duration_ms`, and at least `MIN_RUNS` times unless it is very slow.

        `cpu_ms` is the processor time of the calling thread, which does all the work of a one-threaded session: it
        leaves out what the system or the hypervisor gave to others.
        """
        session, inputs = self._models[model_id]
        runs: list[tuple[int, int]] = []
        with self._within(2 * self.max_run_s) as options:
            slow = time.perf_counter() + self.max_run_s
            session.run(None, inputs, options)  # fetches code and weights that another model pushed out of the caches
            now = time.perf_counter()
            end = now + duration_ms / 1e3
            while not runs or (len(runs) < MIN_RUNS and now < slow) or (len(runs) < MAX_RUNS and now < end):
                wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
                session.run(None, inputs, options)
                cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
                runs.append((wall, cpu))
                now = time.perf_counter()
        return {"wall_ms": [w / 1e6 for w, _ in runs], "cpu_ms": [c / 1e6 for _, c in runs]}

    def answer(self, header: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """The reply to a request. Whatever goes wrong becomes its `error`: the agent lives on."""
        command = header.get("command")
        try:
            if command == "hello":
                return {"ok": True, **self.hello()}
            if command == "load":
                return {"ok": True, **self.load(payload, float(header.get("profile_ms", 0)))}
            if command in ("visit", "unload") and header.get("id") not in self._models:
                return {"ok": False, "error": f"no model has the id {shown(header.get('id'))}"}
            if command == "visit":
                return {"ok": True, **self.visit(header["id"], float(header["duration_ms"]))}
            if command == "unload":
                del self._models[header["id"]]
                return {"ok": True}
        except Exception as error:
            return {"ok": False, "error": reason(error)}
        return {"ok": False, "error": f"unknown command {shown(command)}"}


def _inputs(session: Any) -> dict[str, Any]:
    """Seeded random inputs, 0..1 for floats; every dynamic axis is 1."""
    import numpy as np

    random = np.random.default_rng(0)
    values = {}
    for argument in session.get_inputs():
        element = argument.type[len("tensor(") : -1]
        if element not in ELEMENT_TYPES:
            raise ValueError(f"input {argument.name} has the type {argument.type}, which cannot be made up")
        name = NUMPY_TYPES.get(element, element)
        shape = [side if isinstance(side, int) and side > 0 else 1 for side in argument.shape]
        top = 1.0 if name.startswith("float") else 2.0 if name == "bool" else 100.0
        values[argument.name] = (random.random(shape) * top).astype(name)
    return values


def _temporary_folder() -> tempfile.TemporaryDirectory[str] | None:
    try:
        return tempfile.TemporaryDirectory(prefix="nas-edge-profile-")
    except OSError:
        return None


def _read_profile(path: str) -> list[list[Any]]:
    """The nodes in a profiler's file; none where it is not whole, as on a full disk."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:  # noqa: PTH123
            return node_times(json.load(stream))
    except (OSError, ValueError):
        return []


def node_times(events: list[dict[str, Any]]) -> list[list[Any]]:
    """Name, operator, time in microseconds, first input and first output of each node in a profile, in their order.

    Input and output are an element type and a shape. The time is the mean of the quickest `QUICKEST` of its runs. A
    node that runs several times within a run (in a loop) is as long as one of them.
    """
    times: dict[tuple[str, str], list[int]] = {}
    ends: dict[tuple[str, str], list[Any]] = {}
    for event in events:
        name, arguments = event.get("name", ""), event.get("args") or {}
        if event.get("cat") != "Node" or not name.endswith(KERNEL_EVENT):
            continue
        key = name[: -len(KERNEL_EVENT)], arguments.get("op_name", "")
        times.setdefault(key, []).append(event["dur"])
        ends[key] = [_first(arguments.get(f"{side}_type_shape")) for side in ("input", "output")]
    nodes = []
    for key, durations in times.items():
        quickest = sorted(durations)[: max(1, round(QUICKEST * len(durations)))]
        nodes.append([*key, round(statistics.fmean(quickest), 2), *ends[key]])
    return nodes


def _first(typed: Any) -> list[Any]:
    """The first of the profiler's `{type: shape}`, as a pair; of no type where there is none."""
    return list(next((pair for argument in typed or [] for pair in argument.items()), ("", [])))


def _warm_up(session: Any, inputs: dict[str, Any]) -> int:
    """Run until the medians of two windows agree within 5 %, for at most `WARM_UP_S`; returns the number of runs."""
    end = time.perf_counter() + WARM_UP_S
    runs, before = 0, 0.0
    while True:
        window: list[int] = []
        window_end = time.perf_counter() + 0.01
        while len(window) < MIN_RUNS or time.perf_counter() < window_end:
            start = time.thread_time_ns()
            session.run(None, inputs)
            window.append(time.thread_time_ns() - start)
        runs += len(window)
        now = statistics.median(window)
        if abs(now - before) <= 0.05 * now or time.perf_counter() > end:
            return runs
        before = now


def serve(agent: Agent, requests: IO[bytes], replies: IO[bytes], limit: int = MODEL_LIMIT) -> int:
    """Answer until `quit` or the end of the stream; after a broken frame say so and stop, with status 2."""
    while True:
        try:
            faulthandler.dump_traceback_later(MAX_IDLE_S, exit=True)
            frame = read_frame(requests, limit)
        except (ProtocolError, MemoryError) as error:
            return refuse(replies, f"broken frame: {reason(error)}")
        if frame is None or frame[0].get("command") == "quit":
            return 0
        faulthandler.dump_traceback_later(HUNG * agent.max_run_s, exit=True)
        answer = agent.answer(*frame)
        try:
            reply = pack(answer)
        except ProtocolError as error:
            reply = pack({"ok": False, "error": f"the reply is too long: {reason(error)}"})
        replies.write(reply)
        replies.flush()


def refuse(replies: IO[bytes], why: str, **more: Any) -> int:
    """Say why this agent ends; its exit status."""
    replies.write(pack({"ok": False, "error": why, **more}))
    replies.flush()
    return REFUSED


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nas-edge agent", description="Measures ONNX files over stdin and stdout.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--provider", default="CPUExecutionProvider")
    parser.add_argument("--max-model-mb", type=int, default=MODEL_LIMIT >> 20)
    parser.add_argument("--max-run-s", type=float, default=MAX_RUN_S)
    parser.add_argument("--max-memory-mb", type=int, default=0, help="0: three quarters of what the device has")
    options = parser.parse_args(arguments)
    for name in [name for name in os.environ if name.startswith(NEUTRAL)]:
        del os.environ[name]
    # Frames own the real stdout: whatever a library prints goes to stderr.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        python = f"{sys.executable} (Python {platform.python_version()})"
        return refuse(replies, f"{python} lacks {' and '.join(missing)}", missing=missing)
    try:
        agent = Agent(options.threads, options.provider, options.max_run_s)
    except Exception as error:
        return refuse(replies, reason(error))
    limit_memory(options.max_memory_mb)
    return serve(agent, sys.stdin.buffer, replies, options.max_model_mb << 20)


if __name__ == "__main__":
    sys.exit(main())
