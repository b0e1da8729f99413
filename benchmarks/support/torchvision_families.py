"""torchvision's small families as ONNX files, float and int8, at some resolutions; random weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import torch

import nas_edge
from nas_edge.export import export_onnx
from nas_edge.latency.static_int8 import static_int8
from nas_edge_spaces.torchvision_models import MODELS

SIDES = (96, 160, 224)
IMAGES = 4


def write_families(folder: Path) -> list[Path]:
    """Writes NAME_SIDE_float.onnx and NAME_SIDE_int8.onnx of each; those that are there stay."""
    nas_edge.import_torchvision()
    import torchvision

    paths = []
    for name in MODELS:
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None).eval()
        _vary(model)
        for side in SIDES:
            plain, int8 = (folder / f"{name}_{side}_{kind}.onnx" for kind in ("float", "int8"))
            if not plain.exists():
                onnx.save(export_onnx(model, channels=3, resolution=side), plain)
            if not int8.exists():
                onnx.save(_int8(plain, side), int8)
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


def _int8(plain: Path, side: int) -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    return prepared_int8(plain, [generator.random((1, 3, side, side), dtype=np.float32) for _ in range(IMAGES)])


def prepared_int8(
    plain: Path,
    images: Sequence[npt.NDArray[np.float32]],
    *,
    per_channel: bool = True,
    reduce_range: bool = False,
    weight_bits: Literal[4, 8] = 8,
) -> onnx.ModelProto:
    """Static int8 by ONNX Runtime's own tool, after its own preparation of the file."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        options = {"per_channel": per_channel, "reduce_range": reduce_range}
        return static_int8(onnx.load(prepared), images, **options, weight_bits=weight_bits)
