"""example: ONNX Runtime in this process, on one thread. Put how your device runs a model in its place."""

from __future__ import annotations

import math
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nas_edge import Measurement, MeasurementError, Target, hookimpl

WARM_UP = 10
LEAST_RUNS = 20
CPUINFO = Path("/proc/cpuinfo")
FLAGS = re.compile(r"^(?:flags|Features)\s*:\s*(.+)$", re.MULTILINE)
CPU = re.compile(r"^(?:model name|Model|CPU implementer|CPU part)\s*:\s*(.+)$", re.MULTILINE)


class Example(Target):
    """ONNX Runtime in this process."""

    def __init__(self, address: str) -> None:
        self.name = address

    def fingerprint(self) -> dict[str, Any]:
        import onnxruntime

        about = {"cpu": _cpu(), "architecture": platform.machine(), "instruction_sets": _instruction_sets()}
        return {**about, "onnxruntime": onnxruntime.__version__, "threads": 1}

    def measure(self, model: Path, budget_s: float) -> Measurement:
        """The median run, and the 95 % interval of it that the order of the runs gives, whatever their distribution."""
        run = _runner(model)
        for _ in range(WARM_UP):
            run()
        runs_ms: list[float] = []
        end = time.perf_counter() + budget_s
        while len(runs_ms) < LEAST_RUNS or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            runs_ms.append(1000 * (time.perf_counter() - start))
        runs_ms.sort()
        count, half = len(runs_ms), 1.96 * math.sqrt(len(runs_ms)) / 2
        return Measurement(
            p50_ms=runs_ms[count // 2],
            p90_ms=runs_ms[9 * count // 10],
            low_ms=runs_ms[max(0, int(count / 2 - half))],
            high_ms=runs_ms[min(count - 1, math.ceil(count / 2 + half))],
            samples=count,
            target=self.name,
            fingerprint=self.fingerprint(),
        )


def _cpu() -> str:
    """Its model: what was measured on one holds for no other."""
    found = CPU.findall(CPUINFO.read_text(encoding="utf-8")) if CPUINFO.exists() else []
    return ", ".join(dict.fromkeys(found)) or platform.processor() or platform.machine()  # each core says the same


def _instruction_sets() -> list[str]:
    """Those that ONNX Runtime has kernels of its own for, by which latencies are predicted and weights quantized."""
    found = FLAGS.search(CPUINFO.read_text(encoding="utf-8")) if CPUINFO.exists() else None
    return sorted(name for name in found[1].split() if name.startswith(("avx", "amx", "asimd"))) if found else []


def _runner(model: Path) -> Callable[[], Any]:
    """One run at batch 1, on zeros."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no error class of its own that all derive from
        said = " ".join(str(error).split())[:200]
        raise MeasurementError(f"{model} cannot be run: {said}; give an ONNX file") from error
    (given,) = session.get_inputs()
    image = np.zeros([side if isinstance(side, int) else 1 for side in given.shape], np.float32)
    return lambda: session.run(None, {given.name: image})


@hookimpl
def register_targets(register: Callable[[str, Callable[[str], Target]], None]) -> None:
    register("example", Example)
