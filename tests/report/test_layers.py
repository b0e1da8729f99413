"""Where the time goes: kernels by block and work, and the prediction that they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.support.instant import tiny_model
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.profile import BASE
from nas_edge.records import Kernel
from nas_edge.report.front import front_rows
from nas_edge.report.layers import (
    CONVERSION,
    DENSE,
    DEPTHWISE,
    POINTWISE,
    PRODUCT,
    REST,
    START,
    layer_times,
    layers,
    profiles,
    work_of,
)

from .made import KEY, made_study

NETWORK = (
    Kernel(BASE, BASE, 0.001, 0),
    Kernel("/0/Sub", "sub.constant", 0.002, 0),
    Kernel("269", "quantize", 0.003, 0),
    Kernel("/1/stem/stem.0/stem.0.0/Conv", "int8.thin.dense", 0.004, 100),
    Kernel("/1/stage1/stage1.0/layers/layers.0/Conv", "int8.depthwise", 0.005, 10),
    Kernel("/1/stage1/stage1.0/layers/layers.1/Conv", "int8.pointwise", 0.006, 20),
    Kernel("/1/stage1/stage1.1/layers/layers.0/Conv", "int8.pointwise", 0.007, 30),
    Kernel("386", "reorder.channels_last", 0.008, 0),
    Kernel("/1/classifier/classifier.1/Flatten", "bookkeeping", 0.0, 0),
    Kernel("/1/classifier/classifier.2/Gemm", "int8.gemm", 0.009, 40),
)


def test_kernels_are_summed_by_block_and_work_in_their_order() -> None:
    found = layer_times(NETWORK)
    assert [(t.block, t.work) for t in found] == [
        (START, REST),
        ("input", REST),
        ("stem.0", CONVERSION),  # what has no name is there for the next that has
        ("stem.0", DENSE),
        ("stage1.0", DEPTHWISE),
        ("stage1.0", POINTWISE),
        ("stage1.1", POINTWISE),
        ("classifier.1", CONVERSION),
        ("classifier.2", PRODUCT),
    ]
    assert sum(t.ms for t in found) == pytest.approx(sum(k.ms for k in NETWORK))
    assert sum(t.macs for t in found) == 200
    assert sum(t.kernels for t in found) == len(NETWORK) - 1  # without the one that takes no time


def test_blocks_that_a_model_numbers_keep_their_numbers() -> None:
    """`0` and `1` alone are the preprocessing and the network behind it; a sequence of more is the network's own."""
    names = ("/0/0.0/Conv", "/1/conv/conv.0/Conv", "/2/conv/conv.0/Conv", "/3/Gemm")
    found = layer_times([Kernel(name, "dense", 0.1, 1) for name in names])
    assert [t.block for t in found] == ["0.0", "1", "2", "3"]


def test_every_kind_of_kernel_is_some_work() -> None:
    kinds = {"dequantize": CONVERSION, "pointwise": POINTWISE, "vector": DENSE, "activation": REST, "matmul": PRODUCT}
    assert {kind: work_of(Kernel("", kind, 0.0, 0)) for kind in kinds} == kinds


def test_the_profile_that_made_the_prediction_explains_it(tmp_path: Path) -> None:
    stored = made_study(tmp_path)
    (profile,) = profiles(stored)
    model = LatencyModel(0.1, {"activation": {"calls": 0.02, "kilobytes": 0.01}})
    stored.tables.add_calibration(KEY, "another", replace(profile, model=model).to_json())
    ms = replace(profile, model=model).predict(tiny_model()).ms
    assert ms > 0.12
    found = layers(stored, replace(front_rows(stored)[0], predicted_ms=ms))
    assert found.ms == pytest.approx(ms) and found.missing is None
    assert [(t.block, t.work) for t in found.times] == [(START, REST), ("end", REST)]
    assert [t.ms for t in found.times] == pytest.approx([0.1, ms - 0.1])


def test_what_the_profile_does_not_know_is_named(tmp_path: Path) -> None:
    stored = made_study(tmp_path)
    row = replace(front_rows(stored)[0], predicted_ms=None, repredicted_ms=None)
    found = layers(stored, row)
    assert found.times == () and found.missing is not None and "activation" in found.missing


def test_a_prediction_that_no_stored_profile_makes_is_not_explained_by_one(tmp_path: Path) -> None:
    stored = made_study(tmp_path)
    found = layers(stored, front_rows(stored)[0])
    assert found.times == () and found.missing is not None and "no profile" in found.missing


def test_a_model_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    stored = made_study(tmp_path)
    (tmp_path / "artifacts" / "model-made").unlink()
    found = layers(stored, front_rows(stored)[0])
    assert found.missing is not None and "model.onnx" in found.missing
