"""Rounding to a grid while a network trains, with the straight-through estimator and steps that are learned.

A grid has the values `step * (code - zero_point)` for whole codes in a range. Steps are learned as their logarithms:
an optimizer such as Adam moves each parameter by about its learning rate whatever the size of the gradient, which is
right for a logarithm and far too much for a step itself (Jain et al. 2020, "Trained quantization thresholds", section
3). For the same reason LSQ's gradient scale, a constant factor a tensor, is left out.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from nas_edge import Objective

from .operators import HIGHEST, QuantizeDequantize

LN2 = math.log(2)
RANGE_MOMENTUM = 0.05
OBSERVED_SHARE = 0.75
SMALLEST_STEP = 1e-8


def largest_code(bits: int) -> int:
    """Of a symmetric grid without its lowest code, so that it is the same for both signs: 127, 7, 1 for 8, 4, 2."""
    return int(2 ** (bits - 1)) - 1


class RoundWeight(torch.autograd.Function):
    """Symmetric rounding with a step an output channel, and LSQ's gradients (Esser et al. 2020, equations 1 to 3).

    `q = clip(round(w / s), -Q, Q)`, result `s q`. With g the gradient of the result, that of w is g where
    `|w / s| <= Q` and 0 elsewhere; that of s is the channel's sum of `g (q - w / s)` where `|w / s| <= Q` and of
    `g q` elsewhere; that of log2 s is `s ln 2` times it. `weight` is `[out, ...]`, `log2_step` `[out]`.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, log2_step: Tensor, largest: int) -> Tensor:
        step = log2_step.exp2().view(-1, *[1] * (weight.ndim - 1))
        scaled = weight / step
        codes = scaled.round().clamp_(-largest, largest)
        ctx.save_for_backward(scaled, codes, step)
        ctx.largest = largest
        return codes * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        scaled, codes, step = ctx.saved_tensors
        inside = scaled.abs() <= ctx.largest
        of_step = (gradients[0] * (codes - scaled * inside)).flatten(1).sum(1)
        return gradients[0] * inside, of_step * step.flatten() * LN2, None


class RoundActivation(torch.autograd.Function):
    """Asymmetric rounding with one step and zero point, and LSQ's gradients.

    `q = clip(round(x / s) + z, 0, 255)`, result `s (q - z)`: the formulas of `RoundWeight` for q - z. A value counts as
    inside the grid where it rounds to one of its codes, so that rounding again changes no gradient. Maps of features
    are large: each pass over them counts, and those here take a tenth of the time of torch's fake quantizer on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log2_step: Tensor, zero_point: Tensor) -> Tensor:
        step, zero = float(log2_step.exp2()), int(zero_point)
        rounded = (x.float() / step).round_().clamp_(-zero, HIGHEST - zero).mul_(step).to(x.dtype)
        ctx.save_for_backward(x, rounded)
        ctx.ends = (-zero - 0.5) * step, (HIGHEST - zero + 0.5) * step
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, rounded = ctx.saved_tensors
        of_x: Tensor = torch.ops.aten.hardtanh_backward(gradients[0], x, *ctx.ends)  # the gradient between the ends
        if not ctx.needs_input_grad[1]:
            return of_x, None, None
        # s * (q - z - x / s) is rounded - x inside, and rounded outside.
        return of_x, LN2 * (_inner(gradients[0], rounded) - _inner(of_x, x)), None


def _inner(one: Tensor, other: Tensor) -> Tensor:
    """The sum of products of two tensors of a shape, fastest where 4 dimensions are stored with channels last."""
    if one.ndim == 4:
        one, other = one.permute(0, 2, 3, 1), other.permute(0, 2, 3, 1)
    return torch.dot(one.reshape(-1).float(), other.reshape(-1).float())


class WeightQuantizer(nn.Module):
    """A parametrization of a weight `[out, ...]`: rounded to a symmetric grid of `bits` bits a channel.

    The step of a channel is its root mean square times a learned ratio, or else the largest absolute weight over the
    largest code. Weights before batch normalisation grow fast, which a ratio need not learn to follow. The root mean
    square counts as a constant in the gradient of a step; masks that remove small weights hardly change it.
    """

    log2_ratio: Tensor

    def __init__(self, weight: Tensor, bits: int, *, learned: bool) -> None:
        super().__init__()
        self.largest = largest_code(bits)
        self.learned = learned
        if learned:
            self.log2_ratio = nn.Parameter(fitted_steps(weight, self.largest).log2() - _log2_size(weight))

    def forward(self, weight: Tensor) -> Tensor:
        rounded: Tensor = RoundWeight.apply(weight, self.log2_steps(weight), self.largest)  # type: ignore[no-untyped-call]
        return rounded

    def log2_steps(self, weight: Tensor) -> Tensor:
        """The binary logarithms of the steps `[out]` for what this parametrization is given."""
        if self.learned:
            return self.log2_ratio + _log2_size(weight.detach())
        return largest_steps(weight.detach(), self.largest).log2()


def _log2_size(weight: Tensor) -> Tensor:
    """The binary logarithms of the root mean squares of the channels `[out]`."""
    return weight.flatten(1).square().mean(1).sqrt().clamp_min(SMALLEST_STEP).log2()


def largest_steps(weight: Tensor, largest: int) -> Tensor:
    """The steps `[out]` at which the largest absolute weight of a channel has the largest code."""
    return (weight.flatten(1).abs().amax(1) / largest).clamp_min(SMALLEST_STEP)


@torch.no_grad()
def fitted_steps(weight: Tensor, largest: int) -> Tensor:
    """The steps `[out]` of the least squared error among 0.3 to 1 times those at which nothing is cut off."""
    flat = weight.flatten(1)
    widest = largest_steps(weight, largest)
    best, least = widest, torch.full_like(widest, math.inf)
    for share in torch.linspace(1, 0.3, 36).tolist():
        step = (widest * share)[:, None]
        error = ((flat / step).round().clamp_(-largest, largest) * step - flat).square().sum(1)
        best, least = torch.where(error < least, step[:, 0], best), torch.minimum(error, least)
    return best


class ActivationQuantizer(nn.Module):
    """Rounds an activation to 8 bits, unsigned and asymmetric: zero is always a value of the grid.

    It starts with the range `low` to `high`. Where its step is learned the zero point stays, so the range grows or
    shrinks about zero; `limit` keeps the highest value from passing that of an activation such as ReLU6, which ONNX
    Runtime leaves out only if the grid cuts off all that it would. Where ranges are observed they are moving averages
    of the batches' extremes in training, until `frozen`.
    """

    log2_step: Tensor
    zero_point: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, low: float, high: float, *, learned: bool, limit: float | None = None) -> None:
        super().__init__()
        self.learned = learned
        self.frozen = False
        self.most_log2 = math.inf if limit is None else math.log2(limit / HIGHEST) - 1e-6
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("high", torch.tensor(high))
        self.log2_step = nn.Parameter(torch.zeros(()), requires_grad=learned)
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))
        self._take_range()

    @torch.no_grad()
    def _take_range(self) -> None:
        """Take step and zero point from the range, widened to hold zero (Jacob et al. 2018, section 3.1)."""
        low, high = self.low.clamp(max=0), self.high.clamp(min=0)
        step = ((high - low) / HIGHEST).clamp_min(SMALLEST_STEP)
        self.log2_step.copy_(step.log2().clamp(max=self.most_log2))
        self.zero_point.copy_((-low / step).round())

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        low, high = x.aminmax()
        self.low.lerp_(low, RANGE_MOMENTUM)
        self.high.lerp_(high, RANGE_MOMENTUM)
        self._take_range()

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.learned and not self.frozen:
            self._observe(x.detach())
        if self.training and self.learned and self.most_log2 < math.inf:
            self.log2_step.data.clamp_(max=self.most_log2)
        rounded: Tensor
        if torch.onnx.is_in_onnx_export():  # for an estimate of latency before the network is frozen
            step = torch.tensor(float(self.log2_step.detach().exp2()))
            rounded = QuantizeDequantize.apply(x, step, self.zero_point.to(torch.uint8))  # type: ignore[no-untyped-call]
        else:
            rounded = RoundActivation.apply(x, self.log2_step, self.zero_point)  # type: ignore[no-untyped-call]
        return rounded

    def extra_repr(self) -> str:
        return "learned" if self.learned else "observed"


class FreezeRanges(Objective):
    """Stops the observation of ranges near the end, so that the weights settle on the grids that will be exported."""

    def epoch_end(self, model: nn.Module, epoch: int, epochs: int) -> None:
        if epoch >= min(epochs, max(1, math.floor(OBSERVED_SHARE * epochs))):
            for module in model.modules():
                if isinstance(module, ActivationQuantizer):
                    module.frozen = True
