"""Probes: sound networks of many kinds that ONNX Runtime runs, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from nas_edge.latency.graph import kernels_of, total_macs
from nas_edge.latency.probes import random_probe

SEEDS = range(40)


@pytest.fixture(scope="module")
def probes() -> list[onnx.ModelProto]:
    return [random_probe(seed) for seed in SEEDS]


def is_int8(model: onnx.ModelProto) -> bool:
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def test_every_probe_is_sound_and_known(probes: list[onnx.ModelProto]) -> None:
    for model in probes:
        onnx.checker.check_model(model, full_check=True)
        assert kernels_of(model).unsupported == ()


def test_probes_differ_in_kernels_size_and_type(probes: list[onnx.ModelProto]) -> None:
    kinds = Counter(kernel.kind for model in probes for kernel in kernels_of(model).kernels)
    for common in ("pointwise", "dense", "depthwise", "grouped", "direct.dense", "global_pool", "concat", "transpose"):
        assert kinds[common] > 0, common
    for common in ("int8.pointwise", "int8.dense", "int8.depthwise", "int8.grouped", "quantize", "dequantize"):
        assert kinds[common] > 0, common
    assert 0.25 < np.mean([is_int8(model) for model in probes]) < 0.65
    macs = sorted(total_macs(model) or 0 for model in probes)
    assert macs[0] < 20e6 and macs[-1] > 200e6
    assert len({model.graph.input[0].type.tensor_type.shape.dim[2].dim_value for model in probes}) >= 5


def test_onnx_runtime_runs_them(probes: list[onnx.ModelProto]) -> None:
    """The smallest ones, float and int8."""
    cheap = sorted(probes, key=lambda model: total_macs(model) or 0)
    chosen = [m for m in cheap if is_int8(m)][:3] + [m for m in cheap if not is_int8(m)][:3]
    for model in chosen:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        sides = [dim.dim_value or 1 for dim in model.graph.input[0].type.tensor_type.shape.dim]
        image = np.random.default_rng(0).random(sides, dtype=np.float32)
        (logits,) = session.run(None, {"input": image})
        assert logits.shape[0] == 1 and np.isfinite(logits).all() and logits.std() > 0


def test_the_same_seed_gives_the_same_bytes(probes: list[onnx.ModelProto]) -> None:
    chosen = [next(i for i in SEEDS if is_int8(probes[i])), next(i for i in SEEDS if not is_int8(probes[i]))]
    for seed in chosen:
        assert random_probe(seed).SerializeToString() == probes[seed].SerializeToString()
    assert len({model.SerializeToString() for model in probes}) == len(probes)
