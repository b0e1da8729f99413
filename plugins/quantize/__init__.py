"""Quantization after training: the ONNX file in 8, 4 or 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from nas_edge import Context, Scope, Technique, hookimpl

from ..checks import check_choice, check_count, check_number, refuse
from ..int8_range import check_reduce_range, safe_bits

if TYPE_CHECKING:
    import onnx

SCHEMES = ("static", "dynamic", "float16", "int16", "int4")
RANGES = ("percentile", "minmax", "entropy")
GRANULARITIES = ("channel", "tensor")
ACTIVATIONS = ("unsigned", "signed")
SWITCHES = ("equalize", "bias_correction")
# What the activations are in: for float schemes and for the one that decides at run time there is nothing to choose.
ACTIVATION_BITS = {"static": 8, "dynamic": 8, "int16": 16}
WEIGHT_ONLY = ("float16", "int4")
OF_INTEGER_PRODUCTS = ("static", "dynamic")
UNTRAINED_IMAGES = 8  # only the speed is asked for: the ranges do not matter


@dataclass(frozen=True)
class QuantizeConfig:
    """What becomes integer, and how its scales are found.

    `scheme` is "static" (8-bit weights and activations, scales fixed by calibration), "dynamic" (8-bit weights,
    activations quantized anew for each image), "int16" (as static, with 16-bit activations), "int4" (4-bit weights in
    blocks of `block_size`, float activations) or "float16" (weights stored in 16-bit floats).

    Weights have 2 to 8 `weight_bits` in the first three, and one scale an output channel or a tensor (`granularity`);
    at 4 bits and less they are stored packed. `activation_bits` follows from the scheme and need not be given.
    With `reduce_range` the 8-bit weights of "static" and "dynamic" use 7 bits, for x86 CPUs without VNNI, whose kernels
    saturate sums of 8-bit products; where it is left out the target decides.

    Static activations are `activations` "unsigned" or "signed" integers with a zero point. Their `ranges`, seen on
    `calibration_images` training images, leave the outermost 100 - `percentile` per cent of the values out, half at
    each end ("percentile"), reach to the extremes ("minmax"), or end where the Kullback-Leibler divergence is least
    ("entropy"). On networks trained on Fashion-MNIST the logits have about the same quality with the first two where
    activations are ReLU or ReLU6; with hard-swish and squeeze-excite the first has 7 dB more. With 16 bits there are
    levels enough, and ranges always reach to the extremes.

    The `float_layers` most sensitive layers stay in float (one at least does not), and more until the logits have a
    ratio of signal to quantization noise of `min_sqnr_db` (0: no such demand). `equalize` scales the channels between
    layers alike before anything is rounded, and `bias_correction` takes back the shift of each layer's mean output:
    at 4 bits it brings back most of the accuracy.
    """

    calibration_images: int = 256
    ranges: str = "percentile"
    percentile: float = 99.99
    scheme: str = "static"
    weight_bits: int = 8
    activation_bits: int | None = None
    granularity: str = "channel"
    activations: str = "unsigned"
    reduce_range: bool | None = None
    block_size: int = 32
    float_layers: int = 0
    min_sqnr_db: float = 0.0
    equalize: bool = False
    bias_correction: bool = False

    def __post_init__(self) -> None:
        check_count("quantize", "calibration_images", self.calibration_images, remedy="try 128 to 512")
        check_choice("quantize", "ranges", self.ranges, RANGES)
        check_number("quantize", "percentile", self.percentile, above=50, below=100, remedy="try 99.9 to 99.999")
        check_choice("quantize", "scheme", self.scheme, SCHEMES)
        check_choice("quantize", "granularity", self.granularity, GRANULARITIES)
        check_choice("quantize", "activations", self.activations, ACTIVATIONS)
        self._check_bits()
        check_reduce_range("quantize", self.reduce_range)
        if self.reduce_range is not None and self.scheme not in OF_INTEGER_PRODUCTS:
            must = f"left out with scheme={self.scheme!r}, which is computed in float"
            raise refuse("quantize", "reduce_range", self.reduce_range, must, "leave it out")
        if not _whole(self.block_size) or self.block_size not in (16, 32, 64, 128, 256):
            raise refuse("quantize", "block_size", self.block_size, "16, 32, 64, 128 or 256", "use 32")
        if not _whole(self.float_layers) or self.float_layers < 0:
            raise refuse("quantize", "float_layers", self.float_layers, "a whole number of at least 0", "try 0 to 4")
        remedy = "try 15 to 30, or 0 for any"
        check_number("quantize", "min_sqnr_db", self.min_sqnr_db, above=0, or_zero=True, remedy=remedy)
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise refuse("quantize", name, getattr(self, name), "true or false", "use true")

    def _check_bits(self) -> None:
        if not _whole(self.weight_bits) or not 2 <= self.weight_bits <= 8:
            raise refuse("quantize", "weight_bits", self.weight_bits, "a whole number of 2 to 8", "use 8")
        if self.weight_bits != 8 and self.scheme in WEIGHT_ONLY:
            must = f"8 with scheme={self.scheme!r}, whose name says the bits"
            raise refuse("quantize", "weight_bits", self.weight_bits, must, "leave it out, or use scheme='static'")
        wanted = ACTIVATION_BITS.get(self.scheme)
        if self.activation_bits is not None and (not _whole(self.activation_bits) or self.activation_bits != wanted):
            must = f"{wanted or 'left out'} with scheme={self.scheme!r}: ONNX Runtime computes with nothing narrower"
            remedy = "use 8 with scheme='static', or 16 with scheme='int16'"
            raise refuse("quantize", "activation_bits", self.activation_bits, must, remedy)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Quantize(Technique):
    """Quantization after training, at the level of the ONNX graph, where batch norm is folded into the layers.

    Static int8 is in the QDQ format of ONNX Runtime (Jacob et al. 2018; Krishnamoorthi 2018): weights signed and
    symmetric, activations with one scale and zero point a tensor, biases in 32 bits. The preprocessing, the logits,
    products of two activations, and operators for which ONNX Runtime has no integer kernel stay in float.

    What ONNX Runtime's CPU provider runs: static in integers, as fast at 4 bits as at 8, since weights are unpacked on
    loading; dynamic in integers too, but through kernels several times slower than float for convolutions; int16 in
    float between roundings, slower than float; float16 and the convolutions of int4 as float32, from a smaller file.
    """

    name: ClassVar[str] = "quantize"
    version: ClassVar[int] = 2  # 1 used all 8 bits of weights on every target
    config_type: ClassVar[type] = QuantizeConfig
    after: ClassVar[frozenset[str]] = frozenset({"prune", "low_rank", "sparsify", "distill"})
    exclusive: ClassVar[frozenset[str]] = frozenset({"precision"})
    summary: ClassVar[str] = "int8 in the ONNX file, calibrated on training images; also int4, int16 and float16"

    def suggest(self, scope: Scope) -> QuantizeConfig:
        return QuantizeConfig(
            calibration_images=scope.suggest_categorical("calibration_images", [128, 256]),
            ranges=scope.suggest_categorical("ranges", ["minmax", "percentile"]),
        )

    def graph(self, model: onnx.ModelProto, config: QuantizeConfig, context: Context) -> onnx.ModelProto:
        """The quantized model. Raises `InvalidCandidate` where it holds no layer that can be quantized."""
        from .calibrate import Calibration
        from .quantizer import quantize_model

        images = Calibration(context.data.train.images, config.calibration_images, context.seed)
        if not context.trained:
            images, config = images.first(UNTRAINED_IMAGES), replace(config, ranges="minmax")
        if config.scheme in OF_INTEGER_PRODUCTS:
            [bits] = safe_bits([config.weight_bits], config.reduce_range, context)
            config = replace(config, weight_bits=bits)
        quantized, report = quantize_model(model, config, images, trained=context.trained)
        context.note(report)
        return quantized


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(Quantize())
