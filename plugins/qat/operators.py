"""What QuantizeLinear and DequantizeLinear of ONNX compute, in torch, and exported as them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HIGHEST = 255  # code of an activation; the lowest is 0


class Dequantize(torch.autograd.Function):
    """`codes * scale` along the first dimension; DequantizeLinear in ONNX."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor, scale: Tensor) -> Tensor:
        return codes * scale.view(-1, *[1] * (codes.ndim - 1))

    @staticmethod
    def symbolic(g: Any, codes: Any, scale: Any) -> Any:
        shape, dtype = codes.type().sizes(), codes.type().dtype()
        zero = g.op("Constant", value_t=torch.zeros(shape[0], dtype=dtype))  # ORT has no integer Gemm without
        return g.op("DequantizeLinear", codes, scale, zero, axis_i=0)


class QuantizeDequantize(torch.autograd.Function):
    """`scale * (q - zero_point)` with `q = clip(round(x / scale) + zero_point, 0, 255)`.

    QuantizeLinear and DequantizeLinear in ONNX.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        zero = zero_point.float()
        codes = (x / scale).round_().add_(zero).clamp_(0, HIGHEST)
        return codes.sub_(zero).mul_(scale)

    @staticmethod
    def symbolic(g: Any, x: Any, scale: Any, zero_point: Any) -> Any:
        return g.op("DequantizeLinear", g.op("QuantizeLinear", x, scale, zero_point), scale, zero_point)
