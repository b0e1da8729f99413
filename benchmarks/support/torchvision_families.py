"""torchvision's small families as ONNX files, float and int8, at some resolutions; random weights."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch

import nas_edge
from nas_edge.export import export_onnx

NAMES = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "mnasnet0_5",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "efficientnet_b0",
    "regnet_y_400mf",
    "resnet18",
)
SIDES = (96, 160, 224)
IMAGES = 4


def write_families(folder: Path) -> list[Path]:
    """Writes NAME_SIDE_float.onnx and NAME_SIDE_int8.onnx of each; those that are there stay."""
    nas_edge.import_torchvision()
    import torchvision

    paths = []
    for name in NAMES:
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None).eval()
        _vary(model)
        for side in SIDES:
            plain, int8 = (folder / f"{name}_{side}_{kind}.onnx" for kind in ("float", "int8"))
            if not plain.exists():
                onnx.save(export_onnx(model, channels=3, resolution=side), plain)
            if not int8.exists():
                _quantize(plain, int8, side)
            paths += [plain, int8]
    return paths


def _vary(model: torch.nn.Module) -> None:
    """Normalisation layers that differ, as trained ones do: equal constants would be shared, and fused less."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            with torch.no_grad():
                for values in (module.weight, module.bias, module.running_mean, module.running_var):
                    if values is not None:
                        values.add_(0.1 * torch.rand(values.shape))


def _quantize(source: Path, target: Path, side: int) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            generator = np.random.default_rng(0)
            images = [generator.random((1, 3, side, side), dtype=np.float32) for _ in range(IMAGES)]
            self._images: Iterator[dict[str, npt.NDArray[np.float32]]] = iter([{"input": image} for image in images])

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(self._images, None)

    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )
