"""Mixed precision: which layers the network suffers most from when they are quantized, and so stay in float.

Partial quantization (Wu et al. 2020, "Integer quantization for deep learning inference"): each layer is quantized
alone, and the worst ones are left out. They look at the accuracy; here the measure is the noise of the logits
`[n, classes]`, `SQNR = 10 log10(sum x^2 / sum (x - y)^2)` in dB, which needs fewer images to tell layers apart.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import onnx

from .calibrate import logits_of, sqnr_db
from .graphs import Array, initializers, layers_among, values_of
from .weights import grid_scales, to_grid

Rewrite = Callable[[onnx.ModelProto, Collection[str]], onnx.ModelProto]
Ranking = list[tuple[str, float]]  # names of layers with dB, the worst first
RANKING_IMAGES = 64


def ranked(model: onnx.ModelProto, layers: list[str], rewrite: Rewrite, batches: Iterable[Array]) -> Ranking:
    """The layers with the logits' SQNR in dB when each alone is quantized, the worst first."""
    exact = logits_of(model, batches)
    quality = {name: sqnr_db(exact, logits_of(rewrite(model, [name]), batches)) for name in layers}
    return sorted(quality.items(), key=lambda item: item[1])


def ranked_by_weights(model: onnx.ModelProto, layers: list[str], bits: int) -> Ranking:
    """The layers with the SQNR in dB of their weights, one scale a layer, the worst first: needs no run."""
    constants = initializers(model.graph)
    quality = {}
    for node in layers_among(model.graph, layers):
        if node.input[1] in constants:
            weight = values_of(constants[node.input[1]])
            scales = grid_scales(weight, bits, None)
            quality[node.name] = sqnr_db(weight, to_grid(weight, scales, bits, None) * scales)
    return sorted(quality.items(), key=lambda item: item[1])


def how_many(
    model: onnx.ModelProto,
    order: list[str],
    nodes: list[str],
    rewrite: Rewrite,
    batches: Iterable[Array],
    wanted_db: float,
) -> tuple[int, float]:
    """How many of the layers, in this order, must stay in float for the logits' SQNR to be as wanted, and what it is.

    By bisection: with each more in float, the SQNR is taken to rise.
    """
    exact = logits_of(model, batches)

    def quality(count: int) -> float:
        left = set(order[:count])
        return sqnr_db(exact, logits_of(rewrite(model, [n for n in nodes if n not in left]), batches))

    low, high, reached = 0, len(order), float("inf")
    while low < high:
        middle = (low + high) // 2
        found = quality(middle)
        if found >= wanted_db:
            high, reached = middle, found
        else:
            low = middle + 1
    return low, reached
