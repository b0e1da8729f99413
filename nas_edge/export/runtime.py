"""Runs ONNX models in ONNX Runtime: what a candidate's accuracy is judged by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import nn

from nas_edge.contracts import Split, Target
from nas_edge.cpu import int8_saturates
from nas_edge.data.batches import evaluation_batches
from nas_edge.errors import ExportError, ModelError
from nas_edge.export.exact_int8 import EXACT_INT8, own_constants, saturates_here
from nas_edge.machine_lock import give_way, working

FATAL = 4
TOLERANCE, QUANTIZED_TOLERANCE = 1e-4, 0.05


def session(model: onnx.ModelProto | Path, *, threads: int = 0, exact_int8: bool = True) -> ort.InferenceSession:
    """A CPU session; `threads` 0 takes every core.

    With `exact_int8` sums of 8-bit products are exact on any CPU: on one where they saturate (see `int8_saturates`),
    kernels that take a third longer are used. Without it they are what whoever opens the file gets here.

    Raises `ModelError` where ONNX Runtime refuses a file, `ExportError` where it refuses a model of our making.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = FATAL
    options.add_session_config_entry(EXACT_INT8, "1" if exact_int8 else "0")
    try:
        opened = own_constants(model) if exact_int8 and saturates_here() else model
        source = str(opened) if isinstance(opened, Path) else opened.SerializeToString()
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        if isinstance(model, Path):
            raise ModelError(f"ONNX Runtime refuses {model}: {reason}") from None
        raise ExportError(f"ONNX Runtime refuses the exported model: {reason}") from None


def logits(model: ort.InferenceSession, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Logits `[batch, classes]` of images `[batch, channels, height, width]` in 0..1."""
    outputs: npt.NDArray[np.float32] = model.run(None, {model.get_inputs()[0].name: images})[0]
    return outputs


def accuracy(model: onnx.ModelProto | Path, split: Split, target: Target | None = None) -> float:
    """The fraction of a split that the ONNX model gets right in ONNX Runtime, as `hits` sees it."""
    return int(hits(model, split, target).sum()) / len(split)


@working()
def hits(model: onnx.ModelProto | Path, split: Split, target: Target | None = None) -> npt.NDArray[np.bool_]:
    """Which images of a split the ONNX model gets right in ONNX Runtime on this machine.

    For a target whose sums of 8-bit products are exact they are so here too, whatever CPU this is.
    """
    exact = target is not None and not int8_saturates(target.fingerprint())
    runner = session(model, threads=torch.get_num_threads(), exact_int8=exact)
    found = []
    for images, labels in evaluation_batches(split, 256):
        give_way()
        found.append(logits(runner, images.numpy()).argmax(1) == labels.numpy())
    return np.concatenate(found)


def check_parity(
    model: nn.Module, graph: onnx.ModelProto, images: torch.Tensor, tolerance: float | None = None
) -> float:
    """The largest difference of the logits between torch and ONNX Runtime, relative to their size where above 1.

    The tolerance is 1e-4, and 0.05 for graphs that hold quantizers. Raises `ExportError` where the difference is above
    it: then the file would compute something else.
    """
    if tolerance is None:
        # Integer kernels round an activation that lies between two steps to either: a whole step of difference.
        quantized = any(node.op_type == "QuantizeLinear" for node in graph.graph.node)
        tolerance = QUANTIZED_TOLERANCE if quantized else TOLERANCE
    with torch.inference_mode():
        expected = model(images).numpy()
    difference = relative_difference(logits(session(graph, threads=1), images.numpy()), expected)
    if not difference <= tolerance:
        raise ExportError(f"the exported model's logits differ by {difference:.2g} (relative) from the torch model's")
    return difference


def relative_difference(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """The largest one, relative to the size of what is expected where that is above 1."""
    return float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
