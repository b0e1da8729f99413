"""Quantization in training: the network learns with the rounding that its integer file will have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from nas_edge import Context, Objective, Scope, Technique, hookimpl

from ..checks import check_choice, check_count, refuse
from ..int8_range import check_reduce_range, safe_bits

if TYPE_CHECKING:
    import onnx
    from torch import nn

STEPS = ("learned", "observed")
BATCH_NORM = ("live", "folded")
UNTRAINED_IMAGES = 8  # only the speed is asked for: the ranges do not matter


@dataclass(frozen=True)
class QatConfig:
    """The grids, and how their steps come about.

    Weights have `weight_bits` bits, those of the first and the last layer `edge_bits`: 2 to 8. Activations have 8.
    With `reduce_range` weights of 8 bits use 7, for x86 CPUs without VNNI, whose kernels saturate sums of 8-bit
    products; where it is left out the target decides.
    Steps start at the least squared error, on `calibration_images` training images for activations, and are then
    "learned" with the weights; or "observed": the largest weight of a channel, and a moving average of the extremes of
    an activation. Batch normalisation stays "live" in the recovery training and is folded
    after it: a step an output channel takes up the channel's factor, so the codes stay the same. "folded" before, into
    the convolutions, the training is faster, and at this engine's learning rates recovers less.
    """

    weight_bits: int = 8
    edge_bits: int = 8
    steps: str = "learned"
    batch_norm: str = "live"
    calibration_images: int = 256
    reduce_range: bool | None = None

    def __post_init__(self) -> None:
        for field in ("weight_bits", "edge_bits"):
            bits = getattr(self, field)
            if not isinstance(bits, int) or isinstance(bits, bool) or not 2 <= bits <= 8:
                raise refuse("qat", field, bits, "a whole number from 2 to 8", "use 8, or try 4")
        check_reduce_range("qat", self.reduce_range)
        check_choice("qat", "steps", self.steps, STEPS)
        check_choice("qat", "batch_norm", self.batch_norm, BATCH_NORM)
        check_count("qat", "calibration_images", self.calibration_images, remedy="try 128 to 512")


class Qat(Technique):
    """Quantization-aware training (Jacob et al. 2018, section 3; Krishnamoorthi 2018, section 4).

    The forward pass rounds to the grid of the integer file, the backward pass takes the rounding for the identity
    (the straight-through estimator, Bengio et al. 2013), and the steps of the grids are learned (LSQ, Esser et al.
    2020) as logarithms (Jain et al. 2020). Weights: symmetric, a step an output channel. Activations: 8 bits, a step
    and a zero point a tensor, wherever ONNX Runtime needs integers to run integer kernels. Biases: 32 bits, at export.
    The preprocessing, the logits, products of two activations, and operators for which ONNX Runtime has no integer
    kernel stay in float; so do modules that `torch.fx` cannot trace. In the file the weights are int8, of up to 4 bits
    packed as int4.
    """

    name: ClassVar[str] = "qat"
    version: ClassVar[int] = 2  # 1 used all 8 bits of weights on every target
    config_type: ClassVar[type] = QatConfig
    after: ClassVar[frozenset[str]] = frozenset({"prune", "low_rank", "sparsify", "distill"})
    exclusive: ClassVar[frozenset[str]] = frozenset({"precision"})
    by_default: ClassVar[bool] = False  # its training takes twice as long
    summary: ClassVar[str] = "train with integer weights and activations; 8-bit kernels, weights of 2 to 8 bits"

    def suggest(self, scope: Scope) -> QatConfig:
        return QatConfig(weight_bits=scope.suggest_categorical("weight_bits", [4, 8]))

    def structure(self, model: nn.Module, config: QatConfig, context: Context) -> nn.Module:
        """A copy with fake quantizers. Raises `InvalidCandidate` where it has no layer that can be quantized."""
        from .insert import insert_quantizers

        count = config.calibration_images if context.trained else min(config.calibration_images, UNTRAINED_IMAGES)
        layers, edges = safe_bits([config.weight_bits, config.edge_bits], config.reduce_range, context)
        config = replace(config, weight_bits=layers, edge_bits=edges)
        prepared, report = insert_quantizers(model, config, context.data.train.images, count, context.seed)
        context.note(report)
        return prepared

    def objective(self, config: QatConfig, context: Context) -> Objective | None:
        """Stops the observation of ranges after three quarters of the epochs; None where steps are learned."""
        if config.steps == "learned" or not context.trained:
            return None
        from .quantizers import FreezeRanges

        return FreezeRanges()

    def finalize(self, model: nn.Module, config: QatConfig, context: Context) -> nn.Module:
        """A copy with integer weights and biases, batch normalisation folded, that exports as integers."""
        from .freeze import freeze

        return freeze(model, context.data.train.images[:1])

    def graph(self, model: onnx.ModelProto, config: QatConfig, context: Context) -> onnx.ModelProto:
        """A copy without activations that the rounding makes redundant, with weights of up to 4 bits packed."""
        from .pack import shrink

        return shrink(model)


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(Qat())
