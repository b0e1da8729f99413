"""Measures many models at once: short visits in shuffled rounds, with a reference network around each visit.

A shared or throttled machine changes its speed within seconds, so one long block a model measures the moment. Visits
that are spread over the campaign see every state of the machine, and the reference, visited before and after, tells
how fast it was just then.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nas_edge.errors import MeasurementError, ModelError
from nas_edge.latency.samples import Visit
from nas_edge.targets.client import AgentClient, AgentRefusal

VISIT_MS = 40.0
REFERENCE_MS = 6.0
MIN_ROUNDS = 3


def reference_model() -> bytes:
    """A small fixed network of about 0.3 ms, with the kernels that candidates spend their time in."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    nodes, weights = [], []

    def conv(source: str, name: str, shape: tuple[int, ...], group: int = 1) -> str:
        weight = generator.normal(0, shape[1] ** -0.5, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"{name}.weight"))
        pad = shape[2] // 2
        nodes.append(
            helper.make_node(
                "Conv", [source, f"{name}.weight"], [name], group=group, pads=[pad] * 4, kernel_shape=shape[2:]
            )
        )
        nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"]))
        return f"{name}.relu"

    value = conv("input", "stem", (32, 3, 3, 3))
    for block in range(3):
        value = conv(value, f"expand{block}", (96, 32, 1, 1))
        value = conv(value, f"depthwise{block}", (96, 1, 3, 3), group=96)
        value = conv(value, f"project{block}", (32, 96, 1, 1))
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["output"]))
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 32, 1, 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def read_model(path: Path) -> bytes:
    """The bytes of a model file. Raises `ModelError` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); give the path of an ONNX file") from None


class Campaign:
    """Models loaded in one agent, and their visits so far. More models may join between runs."""

    def __init__(self, client: AgentClient, *, use_cpu_time: bool, seed: int = 0) -> None:
        self._client = client
        self._use_cpu_time = use_cpu_time
        self._random = random.Random(seed)
        self._ids: list[int] = []
        self.visits: list[list[Visit]] = []
        self._reference = client.load(reference_model())

    def add(self, path: Path) -> int:
        """Load a file; its index in `visits`. Raises `ModelError` with ONNX Runtime's reason, in one line."""
        data = read_model(path)
        try:
            self._ids.append(self._client.load(data))
        except AgentRefusal as error:
            raise ModelError(f"{path}: ONNX Runtime refuses it: {error}") from None
        self.visits.append([])
        return len(self._ids) - 1

    def run(self, seconds: float, progress: Callable[[], None] | None = None, *, min_rounds: int = MIN_ROUNDS) -> None:
        """Visit the models, the least visited first, for about `seconds`; each gets `min_rounds` visits in all."""
        end = time.monotonic() + seconds
        while self._ids:
            fewest = min(len(visits) for visits in self.visits)
            due = [index for index, visits in enumerate(self.visits) if len(visits) == fewest]
            self._random.shuffle(due)
            before = self._reference_ms()
            for index in due:
                if time.monotonic() >= end and fewest >= min_rounds:
                    return
                before = self._visit(index, before)
                if progress is not None:
                    progress()

    def reference_ms(self) -> float:
        """The typical time of the reference network over the campaign."""
        times = sorted(visit.reference_ms for visits in self.visits for visit in visits)
        return times[len(times) // 2] if times else self._reference_ms()

    def _visit(self, index: int, before: float) -> float:
        try:
            wall, cpu = self._client.visit(self._ids[index], VISIT_MS)
        except AgentRefusal as error:
            raise MeasurementError(f"the model does not run on random images: {error}") from None
        after = self._reference_ms()
        self.visits[index].append(Visit(tuple(cpu if self._use_cpu_time else wall), tuple(wall), (before + after) / 2))
        return after

    def _reference_ms(self) -> float:
        wall, cpu = self._client.visit(self._reference, REFERENCE_MS)
        times: Sequence[float] = sorted(cpu if self._use_cpu_time else wall)
        return times[len(times) // 2]
