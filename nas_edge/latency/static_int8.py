"""ONNX Runtime's own static quantizer, for networks whose accuracy does not matter."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx


def static_int8(
    model: onnx.ModelProto,
    images: Sequence[npt.NDArray[np.float32]],
    *,
    per_channel: bool = True,
    reduce_range: bool = False,
    weight_bits: Literal[4, 8] = 8,
) -> onnx.ModelProto:
    """Static int8 (QDQ) as ONNX Runtime's own tool makes it of a model with one input, `input`."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model.SerializeToString())
        with _silent():
            quantize_static(
                source,
                target,
                _Images(images),
                quant_format=QuantFormat.QDQ,
                per_channel=per_channel,
                reduce_range=reduce_range,
                weight_type=QuantType.QInt4 if weight_bits == 4 else QuantType.QInt8,
                activation_type=QuantType.QUInt8,
            )
        return onnx.load_model(target)


@contextmanager
def _silent() -> Iterator[None]:
    """The quantizer warns through the root logger of what does not matter here."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(level)


class _Images:
    """Where the quantizer reads its calibration images from: a `CalibrationDataReader` by its shape."""

    def __init__(self, images: Sequence[npt.NDArray[np.float32]]) -> None:
        self._images = iter([{"input": image} for image in images])

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self._images, None)
