"""Quantization: the ONNX file in 8-bit integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nas_edge import Context, Scope, Technique, hookimpl

from ..checks import check_choice, check_count, check_number

if TYPE_CHECKING:
    import onnx

RANGES = ("minmax", "percentile")
UNTRAINED_IMAGES = 8  # only the speed is asked for: the ranges do not matter


@dataclass(frozen=True)
class QuantizeConfig:
    """How activations get their range.

    `ranges` takes the extremes seen on `calibration_images` training images, or leaves the outermost
    100 - `percentile` per cent of the values out, half at each end.
    """

    calibration_images: int = 256
    ranges: str = "minmax"
    percentile: float = 99.99

    def __post_init__(self) -> None:
        check_count("quantize", "calibration_images", self.calibration_images, remedy="try 128 to 512")
        check_choice("quantize", "ranges", self.ranges, RANGES)
        check_number("quantize", "percentile", self.percentile, above=50, below=100, remedy="try 99.9 to 99.999")


class Quantize(Technique):
    """Static int8 after training, in the QDQ format of ONNX Runtime (Jacob et al. 2018; Krishnamoorthi 2018).

    Weights: signed, symmetric, one scale an output channel. Activations: unsigned, one scale and zero point a tensor.
    Biases: 32-bit. The preprocessing, the logits, products of two activations, and operators for which ONNX Runtime
    has no integer kernel stay in float.
    """

    name: ClassVar[str] = "quantize"
    config_type: ClassVar[type] = QuantizeConfig
    after: ClassVar[frozenset[str]] = frozenset({"prune", "low_rank", "distill"})
    summary: ClassVar[str] = "static int8 in the ONNX file, per channel, calibrated on training images"

    def suggest(self, scope: Scope) -> QuantizeConfig:
        return QuantizeConfig(
            calibration_images=scope.suggest_categorical("calibration_images", [128, 256]),
            ranges=scope.suggest_categorical("ranges", RANGES),
        )

    def graph(self, model: onnx.ModelProto, config: QuantizeConfig, context: Context) -> onnx.ModelProto:
        """The quantized model. Raises `InvalidCandidate` where it holds no layer that can be quantized."""
        from .calibrate import calibration_batches
        from .static import quantize_model

        count = config.calibration_images if context.trained else min(config.calibration_images, UNTRAINED_IMAGES)
        percentile = 100.0 if config.ranges == "minmax" else config.percentile
        batches = calibration_batches(context.data.train.images, count, context.seed)
        quantized, report = quantize_model(model, batches, percentile)
        context.note(report)
        return quantized


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(Quantize())
