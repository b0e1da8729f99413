"""What the tests of quantization share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import nn

from nas_edge import Context
from nas_edge.export import export_onnx, logits, session
from nas_edge_plugins.quantize import Quantize, QuantizeConfig

from .toys import CHANNELS, SIDE, conv, head, inputs

Array = npt.NDArray[np.float32]


def exported(model: nn.Module) -> onnx.ModelProto:
    return export_onnx(model.eval(), channels=CHANNELS, resolution=SIDE)


def quantized(graph: onnx.ModelProto, context: Context, **config: Any) -> onnx.ModelProto:
    return Quantize().graph(graph, QuantizeConfig(**{"calibration_images": 32, **config}), context)


def outputs(graph: onnx.ModelProto, count: int = 64) -> Array:
    """Logits of images that were not calibrated on."""
    return logits(session(graph), inputs(count).numpy())


def sqnr_db(exact: Array, approximate: Array) -> float:
    """Signal to quantization noise in dB; 150, more than float32 has, where they are the same."""
    noise = ((exact - approximate) ** 2).mean() / (exact**2).mean()
    return float(-10 * np.log10(max(float(noise), 1e-15)))


def quality_db(graph: onnx.ModelProto, context: Context, **config: Any) -> float:
    return sqnr_db(outputs(graph), outputs(quantized(graph, context, **config)))


def initializers(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    return {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}


def operators(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


def as_run(model: onnx.ModelProto, path: str) -> list[str]:
    """The operators that ONNX Runtime makes of a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = path
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return operators(onnx.load(path))


def uneven() -> nn.Module:
    """ReLU between a convolution, a depthwise and a pointwise one, with channels of very different sizes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = nn.Sequential(
            *conv(CHANNELS, 32, stride=2),
            nn.ReLU(),
            *conv(32, 32, groups=32),
            nn.ReLU(),
            *conv(32, 48, 1),
            nn.ReLU(),
            *head(48),
        )
        sizes = torch.logspace(-1.5, 1.5, 32)[torch.randperm(32)]
        with torch.no_grad():
            network[1].weight.mul_(sizes)  # type: ignore[operator]
            network[1].bias.copy_(0.1 * sizes)  # type: ignore[operator]
            network[3].weight.div_(sizes[:, None, None, None])  # type: ignore[operator]
    return nn.Sequential(nn.Identity(), network)
