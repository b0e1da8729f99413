"""What is done about the error: equalization, bias correction, layers left in float; and the configs refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from nas_edge import Context, InvalidCandidate
from nas_edge_plugins.quantize import Quantize, QuantizeConfig
from nas_edge_plugins.quantize.calibrate import calibration_batches
from nas_edge_plugins.quantize.equalize import equalize
from nas_edge_plugins.quantize.graphs import prepared

from .quantize_kit import Array, exported, initializers, operators, outputs, quality_db, quantized, sqnr_db, uneven
from .toys import CHANNELS, CLASSES, head, toy


def ranges(model: onnx.ModelProto) -> list[tuple[Array, Array]]:
    """For each layer but the last, the largest weight of each channel in it and in the next one."""
    constants = initializers(model)
    layers = [n for n in model.graph.node if n.op_type in {"Conv", "Gemm"}]
    weights = [constants[n.input[1]] for n in layers]
    found = []
    for first, second in itertools.pairwise(weights):
        axes = (1, *range(2, second.ndim)) if second.shape[1] == 1 else (0, *range(2, second.ndim))
        found.append((np.abs(first.reshape(len(first), -1)).max(1), np.abs(second).max(axes)))
    return found


def test_equalization_evens_ranges_and_leaves_the_function() -> None:
    graph = exported(uneven())
    work = prepared(graph)
    assert equalize(work) == "equalized 3 pairs of layers"
    exact = outputs(graph)
    assert np.abs(outputs(work) - exact).max() < 1e-5 * max(1, np.abs(exact).max())
    before, after = ranges(graph), ranges(work)
    assert max(float((r1 / r2).max() / (r1 / r2).min()) for r1, r2 in before) > 100
    for r1, r2 in after:
        np.testing.assert_allclose(r1, r2, rtol=0.02)


def test_equalization_helps_where_channels_share_a_scale(context: Context) -> None:
    graph = exported(uneven())
    without = quality_db(graph, context, granularity="tensor")
    assert quality_db(graph, context, granularity="tensor", equalize=True) > without + 10


def test_equalization_of_groups_and_of_what_lies_between() -> None:
    """Groups of several channels, pooling, and a classifier on pooled features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            *(nn.Conv2d(CHANNELS, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 8, 3, groups=4), nn.LeakyReLU(0.1)),
            *(nn.AvgPool2d(2), nn.Conv2d(8, 8, 1, bias=False), nn.ReLU(), *head(8)),
        )
        with torch.no_grad():
            network[0].weight.mul_(torch.logspace(-1, 1, 12)[:, None, None, None])  # type: ignore[operator]
    graph = exported(network)
    work = prepared(graph)
    assert equalize(work) == "equalized 3 pairs of layers"
    exact = outputs(graph)
    assert np.abs(outputs(work) - exact).max() < 1e-5 * max(1, np.abs(exact).max())
    weights = [v for v in initializers(work).values() if v.ndim == 4]
    first, grouped = sorted(weights, key=np.size, reverse=True)[:2]
    reach = np.abs(grouped).reshape(4, 2, 3, 9).max((1, 3)).reshape(-1)
    np.testing.assert_allclose(np.abs(first).reshape(12, -1).max(1), reach, rtol=0.02)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("depthwise", "no two layers to equalize (left alone: 3 with Clip between)"),
        ("inverted_residual", "no two layers to equalize (left alone: 4 with HardSwish between)"),
        ("squeeze_excite", "equalized 1 pairs of layers"),
    ],
)
def test_equalization_passes_no_bounded_or_curved_activation(name: str, said: str) -> None:
    graph = exported(toy(name))
    work = prepared(graph)
    assert equalize(work).startswith(said)
    assert sqnr_db(outputs(graph), outputs(work)) > 90


@pytest.mark.parametrize("scheme", ["static", "dynamic", "int4"])
def test_bias_correction_takes_the_shift_back(scheme: str, context: Context) -> None:
    """The mean of each logit over the calibration images, against the float network's."""
    graph = exported(toy("inverted_residual"))
    images = np.concatenate(list(calibration_batches(context.data.train.images, 64, context.seed)))
    bits: dict[str, Any] = {} if scheme == "int4" else {"weight_bits": 4}

    def shift(correct: bool) -> float:
        made = quantized(graph, context, calibration_images=64, scheme=scheme, bias_correction=correct, **bits)
        return float(np.abs((run(made, images) - run(graph, images)).mean(0)).max())

    assert shift(True) < 0.02 * shift(False)
    better = quality_db(graph, context, scheme=scheme, bias_correction=True, **bits)
    assert better > quality_db(graph, context, scheme=scheme, **bits) + 6
    assert "corrected the biases of 8 layers" in context.notes[-2]


def run(model: onnx.ModelProto, images: Array) -> Array:
    from nas_edge.export import logits, session

    return logits(session(model), images)


@pytest.mark.parametrize("config", [{"weight_bits": 3}, {"scheme": "int4"}], ids=str)
def test_a_layer_without_a_bias_gets_one_to_correct(config: dict[str, Any], context: Context) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convs = [nn.Conv2d(CHANNELS, 16, 3, bias=False), nn.ReLU(), nn.Conv2d(16, 16, 1, bias=False)]
        network = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES, bias=False))
    graph = exported(network)
    assert quality_db(graph, context, **config, bias_correction=True) > quality_db(graph, context, **config) + 3
    content = graph.SerializeToString()
    made = quantized(graph, context, **config, bias_correction=True)
    assert all(len(n.input) == 3 for n in made.graph.node if n.op_type == "Conv")
    assert graph.SerializeToString() == content


def sensitive() -> tuple[onnx.ModelProto, str]:
    """A network whose third layer has one weight far above the others: with one scale, all those are 0."""
    graph = exported(toy("plain"))
    layer = [n for n in graph.graph.node if n.op_type == "Conv"][2]
    weight = next(i for i in graph.graph.initializer if i.name == layer.input[1])
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] = 60 * np.abs(values).max()
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    return graph, layer.name


@pytest.mark.parametrize("scheme", ["static", "dynamic", "int16"])
def test_the_most_sensitive_layer_stays_in_float(scheme: str, context: Context) -> None:
    graph, name = sensitive()
    options = {"granularity": "tensor", "scheme": scheme}
    made = quantized(graph, context, float_layers=1, **options)
    assert in_float(made) == [name]
    assert f"kept in float: {name} (" in context.notes[-1]
    assert quality_db(graph, context, float_layers=1, **options) > quality_db(graph, context, **options) + 10
    draft = quantized(graph, replace(context, trained=False), float_layers=1, **options)
    assert in_float(draft) == [name]
    assert operators(draft) == operators(made)


def in_float(model: onnx.ModelProto) -> list[str]:
    """The layers whose weights are stored as floats."""
    floats = {i.name for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    return [n.name for n in model.graph.node if n.op_type in {"Conv", "Gemm"} and n.input[1] in floats]


def test_as_many_stay_in_float_as_the_quality_asks_for(context: Context) -> None:
    graph = exported(toy("inverted_residual"))
    counts, reached = [], []
    for wanted in (0.0, 20.0, 32.0):
        made = quantized(graph, context, weight_bits=4, min_sqnr_db=wanted)
        counts.append(len(in_float(made)))
        reached.append(sqnr_db(outputs(graph), outputs(made)))
    assert 0 == counts[0] <= counts[1] < counts[2] < 8
    assert reached[1] > 18 and reached[2] > 30
    at_least = quantized(graph, context, weight_bits=4, min_sqnr_db=32.0, float_layers=counts[2] + 1)
    assert len(in_float(at_least)) == counts[2] + 1


def test_one_layer_at_least_is_quantized(context: Context) -> None:
    graph = exported(toy("plain"))
    assert len(in_float(quantized(graph, context, float_layers=9))) == 3
    with pytest.raises(InvalidCandidate, match="min_sqnr_db=200 is not reached with any of the 4 layers quantized"):
        quantized(graph, context, min_sqnr_db=200)


@pytest.mark.parametrize(
    "config",
    [
        {"scheme": "int2"},
        {"granularity": "layer"},
        {"activations": "both"},
        {"ranges": "mse"},
        {"weight_bits": 1},
        {"weight_bits": 9},
        {"weight_bits": True},
        {"weight_bits": 4.0},
        {"weight_bits": 4, "scheme": "int4"},
        {"weight_bits": 4, "scheme": "float16"},
        {"activation_bits": 3},
        {"activation_bits": 16},
        {"activation_bits": 8, "scheme": "int16"},
        {"activation_bits": 8, "scheme": "int4"},
        {"block_size": 24},
        {"float_layers": -1},
        {"float_layers": 0.5},
        {"min_sqnr_db": -1},
        {"min_sqnr_db": float("nan")},
        {"equalize": 1},
        {"bias_correction": "yes"},
    ],
)
def test_a_bad_config_is_refused_with_field_value_and_remedy(config: dict[str, Any]) -> None:
    field, value = next(iter(config.items()))
    with pytest.raises(InvalidCandidate) as caught:
        Quantize().config_from_json(config)
    message = str(caught.value)
    assert message.startswith(f"quantize: {field}={value!r} must be ")
    assert "use " in message or "try " in message


def test_3_bit_activations_are_told_where_to_go() -> None:
    with pytest.raises(InvalidCandidate) as caught:
        QuantizeConfig(activation_bits=3)
    assert str(caught.value) == (
        "quantize: activation_bits=3 must be 8 with scheme='static': ONNX Runtime computes with nothing narrower; "
        "use 8 with scheme='static', or 16 with scheme='int16'"
    )
    for good in ({"activation_bits": 8}, {"activation_bits": 16, "scheme": "int16"}):
        assert QuantizeConfig(**good).activation_bits == good["activation_bits"]


@pytest.mark.parametrize("bits", [8, 4])
def test_layers_before_a_reshape_are_ranked_with_signed_activations_too(bits: int, context: Context) -> None:
    """In opset 21, which 4 bits need, ONNX Runtime refuses signed roundings that it moved over a reshape itself."""
    graph = exported(toy("self_attention"))
    made = quantized(graph, context, activations="signed", weight_bits=bits, float_layers=1)
    assert sqnr_db(outputs(graph), outputs(made)) > 12
    assert "kept in float: " in context.notes[-1]
