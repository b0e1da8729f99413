"""The ORT format: what ONNX Runtime's mobile and reduced builds load, and the operators that such a build needs."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort

from nas_edge.errors import ExportError
from nas_edge.export.runtime import QUANTIZED_TOLERANCE, TOLERANCE, logits, relative_difference, session

ORT_FILE, OPERATORS_FILE = "model.ort", "model.required_operators.config"
ARM = ("aarch64", "arm")  # how the names of such architectures begin
IMAGES = 8
WARNING, ERROR = 2, 3  # ONNX Runtime's severities


def convert_to_ort(model: Path, folder: Path, architecture: str = "") -> list[Path]:
    """Write `model.ort` and `model.required_operators.config` of an ONNX file into a folder; their paths.

    By ONNX Runtime's own converter, with every optimisation but the NCHWc layout, which ties a file to one kind of CPU.
    For an ARM `architecture` 8-bit integers keep their signs, which is quicker there. Raises `ExportError` where it
    does not convert, or where its logits are not those of the ONNX file.
    """
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as name:
        work = Path(name).resolve()
        source = work / "model.onnx"
        shutil.copyfile(model, source)
        try:
            _convert(source, arm=architecture.lower().startswith(ARM))
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ExportError(f"the model does not convert to the ORT format: {reason}") from error
        operators = (work / OPERATORS_FILE).read_text(encoding="utf-8").replace(f"{work}/", "")
        _check_same(source, work / ORT_FILE, quantized="QuantizeLinear" in operators)
        shutil.copyfile(work / ORT_FILE, folder / f"{ORT_FILE}.part")
        (folder / f"{ORT_FILE}.part").replace(folder / ORT_FILE)
        (folder / OPERATORS_FILE).write_text(operators, encoding="utf-8")
    return [folder / ORT_FILE, folder / OPERATORS_FILE]


def _convert(model: Path, *, arm: bool) -> None:
    """The converter prints, sets up logging when it is imported, and makes ONNX Runtime warn of what it leaves out."""
    handlers = logging.root.handlers[:]
    try:
        from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort
    finally:
        logging.root.handlers[:] = handlers
    ort.set_default_logger_severity(ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves the file that it made to the collector
            convert_onnx_models_to_ort(
                model, optimization_styles=[OptimizationStyle.Fixed], target_platform="arm" if arm else None
            )
    finally:
        ort.set_default_logger_severity(WARNING)


def _check_same(model: Path, converted: Path, *, quantized: bool) -> None:
    """On random images; a quantized activation that lies between two steps may be rounded to either."""
    first, second = (session(path, threads=1, exact_int8=False) for path in (model, converted))
    shape = first.get_inputs()[0].shape[1:]
    images = np.random.default_rng(0).random((IMAGES, *shape), np.float32)
    difference = relative_difference(logits(second, images), logits(first, images))
    if not difference <= (QUANTIZED_TOLERANCE if quantized else TOLERANCE):
        raise ExportError(f"the ORT format's logits differ by {difference:.2g} (relative) from the ONNX file's")
