"""The ORT format: it loads, computes the same, is bound to no CPU, and says which operators a build needs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest

from nas_edge import ExportError
from nas_edge.export import logits, ort_format, save_model, session
from nas_edge.export.ort_format import OPERATORS_FILE, ORT_FILE, convert_to_ort

from ..latency.networks import Network, random_mobile


def int8_network() -> onnx.ModelProto:
    net = Network(3, 16)
    value = net.int8_conv(net.int8_conv(net.quantized("input"), 8, 3, 3), 8, 8)
    return net.model(net.node("Flatten", [net.node("GlobalAveragePool", [value])]), rank=2)


MODELS = {"float": random_mobile(2), "int8": int8_network()}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    save_model(MODELS[request.param], path)
    return path


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_it_loads_and_computes_the_same(
    model: Path, architecture: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = logging.root.handlers[:]
    paths = convert_to_ort(model, tmp_path, architecture)
    assert [path.name for path in paths] == [ORT_FILE, OPERATORS_FILE] and sorted(tmp_path.iterdir()) == sorted(
        [model, *paths]
    )
    assert logging.root.handlers == handlers and capfd.readouterr() == ("", "")
    first, second = (session(path, threads=1, exact_int8=False) for path in (model, paths[0]))
    images = np.random.default_rng(7).random((3, *first.get_inputs()[0].shape[1:]), np.float32)
    expected = logits(first, images)
    np.testing.assert_allclose(logits(second, images), expected, atol=1e-4 * max(1.0, np.abs(expected).max()))
    operators = paths[1].read_text()
    assert "nchwc" not in operators and str(tmp_path) not in operators and "model.ort" in operators
    lines = [line for line in operators.splitlines() if not line.startswith("#")]
    assert all(len(line.split(";")) == 3 for line in lines)
    named = {name for line in lines for name in line.split(";")[2].split(",")}
    assert named & {"Conv", "FusedConv", "QLinearConv"} and "GlobalAveragePool" in operators


def test_another_result_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(random_mobile(2), tmp_path / "model.onnx")
    convert = ort_format._convert

    def another(model: Path, *, arm: bool) -> None:
        graph = onnx.load(model)
        weights = onnx.numpy_helper.to_array(graph.graph.initializer[-1])
        graph.graph.initializer[-1].CopyFrom(
            onnx.numpy_helper.from_array(weights + 1, graph.graph.initializer[-1].name)
        )
        save_model(graph, model.with_name("other.onnx"))
        (model.with_name("other.onnx")).replace(model.parent / "kept.onnx")
        original = model.read_bytes()
        model.write_bytes((model.parent / "kept.onnx").read_bytes())
        convert(model, arm=arm)
        model.write_bytes(original)

    monkeypatch.setattr(ort_format, "_convert", another)
    with pytest.raises(ExportError, match=r"the ORT format's logits differ by"):
        convert_to_ort(tmp_path / "model.onnx", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_what_does_not_convert_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match="does not convert to the ORT format: "):
        convert_to_ort(tmp_path / "model.onnx", tmp_path)
