"""Static int8: what is integer in the file, how close it computes, and that the file is the same each time."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import nn

from nas_edge import Context, InvalidCandidate
from nas_edge.export import accuracy, describe, logits, save_model, session
from nas_edge_plugins.quantize import Quantize, QuantizeConfig
from nas_edge_plugins.quantize.calibrate import activation_ranges, calibration_batches

from .quantize_kit import Array, exported, initializers, sqnr_db
from .toys import CHANNELS, SIDE, TOYS, conv, head, inputs, toy


@pytest.mark.parametrize("ranges", ["minmax", "percentile"])
@pytest.mark.parametrize("name", TOYS)
def test_outputs_are_close_to_float(name: str, ranges: str, context: Context, tmp_path: Path) -> None:
    graph = exported(toy(name))
    quantized = Quantize().graph(graph, QuantizeConfig(64, ranges), context)
    for count in (1, 7):  # any batch size
        x = inputs(count).numpy()
        assert sqnr_db(logits(session(graph), x), logits(session(quantized), x)) > 30
    save_model(quantized, tmp_path / "model.onnx")
    assert onnx.load_model(tmp_path / "model.onnx").ir_version == graph.ir_version


@pytest.mark.parametrize("name", TOYS)
def test_weights_are_int8_with_a_scale_a_channel(name: str, context: Context) -> None:
    graph = exported(toy(name))
    quantized = Quantize().graph(graph, QuantizeConfig(32), context)
    constants = initializers(quantized)
    makers = {n.output[0]: n for n in quantized.graph.node}
    layers = [n for n in quantized.graph.node if n.op_type in {"Conv", "Gemm"}]
    assert len(layers) == sum(n.op_type in {"Conv", "Gemm"} for n in graph.graph.node)
    floats = initializers(graph)
    originals = {n.name: floats[n.input[1]] for n in graph.graph.node if n.op_type in {"Conv", "Gemm"}}
    for layer in layers:
        made = makers[layer.input[1]]
        values, scale = constants[made.input[0]], constants[made.input[1]]
        assert values.dtype == np.int8
        assert scale.shape == values.shape[:1]
        shape = (-1, *[1] * (values.ndim - 1))
        error = np.abs(values * scale.reshape(shape) - originals[layer.name])
        assert (error <= scale.reshape(shape) * 0.5001).all()


def test_preprocessing_and_attention_products_stay_in_float(context: Context) -> None:
    model = toy("self_attention", resolution=20)
    quantized = Quantize().graph(exported(model), QuantizeConfig(32), context)
    makers = {n.output[0]: n.op_type for n in quantized.graph.node}
    resize = next(n for n in quantized.graph.node if n.op_type == "Resize")
    assert makers[resize.input[0]] == "Div"
    for product in (n for n in quantized.graph.node if n.op_type == "MatMul"):
        readers = [n.op_type for n in quantized.graph.node if product.output[0] in n.input]
        assert "QuantizeLinear" not in readers or readers == ["QuantizeLinear"]
    assert "Resize" in context.notes[-1]
    assert "Softmax" in context.notes[-1]


def test_a_large_file_falls_to_about_a_quarter(context: Context) -> None:
    graph = exported(
        nn.Sequential(nn.Identity(), nn.Sequential(*conv(CHANNELS, 128), nn.ReLU(), *conv(128, 256), *head(256)))
    )
    quantized = Quantize().graph(graph, QuantizeConfig(16), context)
    assert 0.24 < quantized.ByteSize() / graph.ByteSize() < 0.28


def test_no_accuracy_is_lost_on_a_trained_network(context: Context) -> None:
    for name in ("plain", "inverted_residual", "squeeze_excite"):
        graph = exported(context.trainer.fit(toy(name), samples=2560))
        exact = accuracy(graph, context.data.validation)
        made = Quantize().graph(graph, QuantizeConfig(128), context)
        found = accuracy(made, context.data.validation, context.target)
        assert exact > 0.9
        assert found >= exact - 0.02


def test_the_logits_are_not_rounded(context: Context) -> None:
    quantized = Quantize().graph(exported(toy("plain")), QuantizeConfig(32), context)
    assert next(n.op_type for n in quantized.graph.node if "logits" in n.output) == "Gemm"


def test_bytes_do_not_depend_on_the_process(context: Context, tmp_path: Path) -> None:
    graph = exported(toy("squeeze_excite"))
    config = QuantizeConfig(32, weight_bits=4, equalize=True, bias_correction=True, float_layers=1)
    once, twice = (Quantize().graph(graph, config, context).SerializeToString() for _ in range(2))
    assert once == twice
    code = (
        "import sys; from pathlib import Path; import onnx; from toys import toy_context\n"
        "from nas_edge_plugins.quantize import Quantize, QuantizeConfig\n"
        "graph = onnx.load(sys.argv[1])\n"
        "config = QuantizeConfig(32, weight_bits=4, equalize=True, bias_correction=True, float_layers=1)\n"
        "made = Quantize().graph(graph, config, toy_context(Path(sys.argv[1]).parent))\n"
        "Path(sys.argv[2]).write_bytes(made.SerializeToString())\n"
    )
    onnx.save(graph, tmp_path / "float.onnx")
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "float.onnx", tmp_path / "int8.onnx"],
        check=True,
        env={"PYTHONHASHSEED": "123", "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
    )
    assert (tmp_path / "int8.onnx").read_bytes() == once


def test_it_is_quiet_and_leaves_no_file(
    context: Context, capfd: pytest.CaptureFixture[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = list(logging.getLogger().handlers)
    Quantize().graph(exported(toy("depthwise")), QuantizeConfig(32, "percentile"), context)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger().handlers == handlers
    assert logging.getLogger().filters == []


def test_metadata_and_names_at_the_border_stay(context: Context) -> None:
    graph = describe(exported(toy("plain")), {"classes": "a b c d e"})
    quantized = Quantize().graph(graph, QuantizeConfig(16), context)
    assert {p.key: p.value for p in quantized.metadata_props} == {"classes": "a b c d e"}
    assert quantized.graph.input == graph.graph.input
    assert quantized.graph.output == graph.graph.output
    assert {n.name for n in quantized.graph.node if n.op_type == "Conv"} == {
        n.name for n in graph.graph.node if n.op_type == "Conv"
    }


def test_ranges_are_those_of_the_values() -> None:
    draw = np.random.default_rng(0)
    batches = [draw.normal(size=(4, 1, 8, 8)).astype(np.float32) for _ in range(3)]
    node = onnx.helper.make_node("Mul", ["input", "two"], ["doubled"])
    value = onnx.helper.make_tensor_value_info("input", 1, ["batch", 1, 8, 8])
    result = onnx.helper.make_tensor_value_info("doubled", 1, ["batch", 1, 8, 8])
    two = onnx.helper.make_tensor("two", 1, [], [2.0])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [value], [result], [two]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    doubled = 2 * np.concatenate(batches)
    widest = activation_ranges(model, [result], batches, QuantizeConfig(ranges="minmax"))
    assert widest == {"doubled": (doubled.min(), doubled.max())}
    narrow = QuantizeConfig(ranges="percentile", percentile=90)
    low, high = activation_ranges(model, [result], batches, narrow)["doubled"]
    np.testing.assert_allclose([low, high], np.quantile(doubled, [0.05, 0.95]), rtol=1e-6)


def test_calibration_images_are_training_images_drawn_by_seed(context: Context) -> None:
    images = context.data.train.images

    def drawn(count: int, seed: int) -> Array:
        return np.concatenate(list(calibration_batches(images, count, seed)))

    assert drawn(50, 0).shape == (50, CHANNELS, SIDE, SIDE)
    assert drawn(10_000, 0).shape[0] == len(images)
    known = {image.numpy().tobytes() for image in images}
    assert all(np.rint(image * 255).astype(np.uint8).tobytes() in known for image in drawn(50, 0))
    assert (drawn(50, 0) == drawn(50, 0)).all()
    assert (drawn(50, 0) != drawn(50, 1)).any()


def test_the_quick_pass_calibrates_on_a_few_images(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    import nas_edge_plugins.quantize.calibrate as calibrate

    seen: list[int] = []

    def counted(images: object, count: int, seed: int) -> Iterator[Array]:
        seen.append(count)
        return calibration_batches(context.data.train.images, count, seed)

    monkeypatch.setattr(calibrate, "calibration_batches", counted)
    graph = exported(toy("depthwise"))
    Quantize().graph(graph, QuantizeConfig(128), replace(context, trained=False))
    Quantize().graph(graph, QuantizeConfig(128), context)
    assert seen == [8, 128]


def test_a_network_without_layers_is_refused(context: Context) -> None:
    graph = exported(nn.Sequential(nn.AvgPool2d(SIDE), nn.Flatten()))
    with pytest.raises(InvalidCandidate, match="quantize: the ONNX file holds no layer"):
        Quantize().graph(graph, QuantizeConfig(), context)
