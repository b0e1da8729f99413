"""What masks did, in words: zeros and bytes, and no word of speed that they do not give."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from .masks import MaskedLayer, dense_weight

if TYPE_CHECKING:
    from . import SparsifyConfig

RAW_DEFLATE = -15  # zlib's number for no header around it
SHOWN = 4


def masked_report(
    masked: Sequence[MaskedLayer], config: SparsifyConfig, left_dense: Sequence[str], rescued: Sequence[str]
) -> str:
    """After a one-shot removal."""
    removed = sum(int(mask.removed.sum()) for _, _, mask in masked)
    report = f"zeroed {removed} of {_extent(masked)} by {_rule(config)}{_left(left_dense)}"
    if rescued:
        report += f"; kept the best weight of layers that would have lost all: {_names(rescued)}"
    return report


def planned_report(masked: Sequence[MaskedLayer], config: SparsifyConfig, left_dense: Sequence[str]) -> str:
    """Before a gradual schedule."""
    return f"will zero epoch by epoch, of {_extent(masked)}, by {_rule(config)}{_left(left_dense)}"


def zeros_report(masked: Sequence[MaskedLayer], *, compress: bool) -> str:
    """Once training is over. With `compress`, deflated sizes too, of the masked weights and of those before masking."""
    if not masked:
        return "no weight was masked"
    dense = [dense_weight(layer, mask) for _, layer, mask in masked]
    weights = [mask(w) for w, (_, _, mask) in zip(dense, masked, strict=True)]
    zeros, total = sum(int((w == 0).sum()) for w in weights), sum(w.numel() for w in weights)
    report = f"{zeros / total:.1%} of {_extent(masked)} are zero"
    if compress:
        report += (
            f": their {sum(w.nbytes for w in weights)} bytes deflate to {deflated_bytes(weights)}, "
            f"and to {deflated_bytes(dense)} without the masks"
        )
    report += "; the ONNX file stores each zero, and ONNX Runtime computes with it as with any number"
    single = [name for name, _, mask in masked if int(mask.removed.sum()) == mask.removed.numel() - 1 > 0]
    if single:
        report += f"; one weight is left of {_names(single)}"
    if not all(mask.recovered for _, _, mask in masked):
        report += "; a schedule of one epoch removed them at its end: train for more, or use the schedule 'one_shot'"
    return report


def deflated_bytes(weights: Iterable[torch.Tensor]) -> int:
    """The bytes of weights, one after the other, compressed by deflate as archives and most downloads do."""
    packer = zlib.compressobj(wbits=RAW_DEFLATE)
    return sum(len(packer.compress(w.cpu().contiguous().numpy().tobytes())) for w in weights) + len(packer.flush())


def _extent(masked: Sequence[MaskedLayer]) -> str:
    return f"{sum(mask.removed.numel() for _, _, mask in masked)} weights in {len(masked)} layers"


def _rule(config: SparsifyConfig) -> str:
    score = "sensitivity" if config.mode == "sensitivity" else f"score {config.score!r}"
    amount = f"below {config.threshold:g}" if config.mode == "threshold" else f"lowest {config.sparsity:.1%}"
    return f"{score}, {amount}, scope {config.scope!r}"


def _left(left_dense: Sequence[str]) -> str:
    return f"; left dense: {', '.join(left_dense)}" if left_dense else ""


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
