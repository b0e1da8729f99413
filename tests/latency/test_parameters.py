"""The number of parameters is that of the network, however its file stores them."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from torch import nn

from nas_edge import Context, Technique
from nas_edge.export import export_onnx
from nas_edge.latency.graph import parameter_count
from nas_edge_plugins.qat import Qat, QatConfig
from nas_edge_plugins.quantize import Quantize, QuantizeConfig
from nas_edge_plugins.weight_codes import WeightCodes, WeightCodesConfig

from ..plugins.toys import CHANNELS, SIDE, TOYS, every_block, toy, toy_context

NAMES = [*TOYS, every_block.__name__]
LAYERS = (nn.Conv2d, nn.Linear)
SCHEMES = [("static", 8), ("static", 4), ("dynamic", 8), ("dynamic", 4), ("int16", 8), ("int4", 8), ("float16", 8)]
CODES = ("uniform", "codebook", "logarithmic", "ternary", "trained_ternary", "binary")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return toy_context(tmp_path_factory.mktemp("work"))


def exported(model: nn.Module) -> onnx.ModelProto:
    return export_onnx(model, channels=CHANNELS, resolution=SIDE)


def expected(name: str) -> int:
    """Weights; a bias for each layer that has one or a batch norm after it; mean and deviation of the inputs."""
    layers = [m for m in toy(name).modules() if isinstance(m, LAYERS)]
    norms = sum(m.num_features for m in toy(name).modules() if isinstance(m, nn.BatchNorm2d))
    biases = sum(layer.bias.numel() for layer in layers if layer.bias is not None)
    return sum(layer.weight.numel() for layer in layers) + biases + norms + 2 * CHANNELS


def made(technique: Technique, config: Any, context: Context, name: str) -> onnx.ModelProto:
    model = technique.finalize(technique.structure(toy(name), config, context), config, context)
    return technique.graph(exported(model), config, context)


@pytest.mark.parametrize("name", NAMES)
def test_the_float_file_has_those_of_the_network(name: str) -> None:
    assert parameter_count(exported(toy(name))) == expected(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("scheme", "bits"), SCHEMES)
def test_quantized_files_have_as_many(name: str, scheme: str, bits: int, context: Context) -> None:
    config = QuantizeConfig(16, "minmax", scheme=scheme, weight_bits=bits)
    assert parameter_count(made(Quantize(), config, context, name)) == expected(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("code", CODES)
def test_packed_codes_are_as_many(name: str, code: str, context: Context) -> None:
    config = WeightCodesConfig(code, ends="coded", depthwise="coded")
    assert parameter_count(made(WeightCodes(), config, context, name)) == expected(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", [8, 4])
def test_networks_that_were_trained_in_integers_have_as_many(name: str, bits: int, context: Context) -> None:
    config = QatConfig(bits, bits, calibration_images=16)
    assert parameter_count(made(Qat(), config, context, name)) == expected(name)
