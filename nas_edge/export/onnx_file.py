"""Writes ONNX models."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import nn

from nas_edge.errors import ExportError

OPSET = 17


def export_onnx(model: nn.Module, *, channels: int, resolution: int) -> onnx.ModelProto:
    """The model as ONNX: `input` float32 `[batch, channels, resolution, resolution]` to `logits` `[batch, classes]`.

    By the TorchScript exporter: torch's newer one takes ten times as long for the same graph. Raises `ExportError`.
    """
    example = torch.zeros(1, channels, resolution, resolution)
    buffer = io.BytesIO()
    was_training = model.training
    model.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations of the exporter itself, and its own tracer's hints
            torch.onnx.export(
                model,
                (example,),
                buffer,  # type: ignore[arg-type]  # the TorchScript exporter takes one
                dynamo=False,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["logits"],
                dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
            )
    except Exception as error:
        raise ExportError(f"the model does not export to ONNX: {_first_line(error)}") from error
    finally:
        model.train(was_training)
    proto = onnx.load_model_from_string(buffer.getvalue())
    proto.producer_name, proto.producer_version, proto.graph.name = "nas_edge", "", "network"
    return proto


def describe(model: onnx.ModelProto, properties: Mapping[str, str]) -> onnx.ModelProto:
    """A copy that carries the properties in its metadata, where every ONNX tool shows them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.helper.set_model_props(copy, {**{p.key: p.value for p in model.metadata_props}, **properties})
    return copy


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model under a temporary name, and rename it."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(model.SerializeToString(deterministic=True))
    temporary.replace(path)


def sha256_of(path: Path) -> str:
    """What a file is known by: 64 hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


logging.getLogger("torch.onnx").setLevel(logging.ERROR)
torch._C._jit_set_onnx_log_output_stream("stderr")  # of a failed export it prints the whole graph
