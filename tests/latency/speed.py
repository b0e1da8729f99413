"""How long a prediction takes, in a process of its own: that of the suite has a heap full of other things.

Prints, as JSON, the milliseconds of processor time of a float and an int8 candidate, each with a yardstick's.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable

import numpy as np
import onnx

from nas_edge.latency.graph import kernels_of
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel, NetworkCorrection, ShapeCorrection
from nas_edge.latency.profile import Profile

from .families import classified, inverted, quantized, squeeze_excite
from .networks import Network

REPEATS = 15
CENTRES, NETWORKS = 40, 400  # as large as profiles get
LOOPS = 140_000  # about 5 ms of plain Python on a server core; a slower or busier machine is slower at both


def candidate() -> onnx.ModelProto:
    """Six inverted residuals with squeeze-excite and hard-swish: 73 nodes, and 267 in int8, as candidates have."""
    net = Network(3, 64)
    value, width = net.node("HardSwish", [net.conv("input", 16, 3, 3, stride=2)]), 16
    for index in range(6):
        stride = 2 if index in (1, 3) else 1
        filters = 16 + 8 * (index // 2)
        value = inverted(net, value, width, filters, "HardSwish", stride=stride, attend=squeeze_excite)
        width = filters
    return classified(net, value, width)


def large_profile(model: onnx.ModelProto) -> Profile:
    """A profile that knows the kernels of the model, with tables of full size."""
    draw, kernels = np.random.default_rng(0), {k.kind: k for k in kernels_of(model).kernels}
    kinds = (*kernels, *(f"other{i}" for i in range(40)))
    shapes = {
        kind: ShapeCorrection(
            0.01, draw.uniform(2, 12, (CENTRES, len(kernels[kind].dims))), draw.normal(0, 0.01, CENTRES)
        )
        for kind in kernels
    }
    network = NetworkCorrection(kinds, draw.uniform(0, 1, (NETWORKS, 1 + len(kinds))), draw.normal(0, 0.001, NETWORKS))
    prices = {kind: dict.fromkeys(kernel.features, 1e-4) for kind, kernel in kernels.items()}
    latency = LatencyModel(0.01, prices, 0.0, prices, shapes, network)
    return Profile("local", {"cpu": "x"}, latency, HeldOutError(0.02, 0.05, 0.8, 0.97, NETWORKS), 0.01, 50.0, 0.1)


def elapsed_ms(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def yardstick() -> int:
    return sum(number * number for number in range(LOOPS))


def main() -> None:
    found = []
    for model in (candidate(), quantized(candidate())):
        profile = large_profile(model)
        assert profile.predict(model).unsupported == ()
        predict = functools.partial(profile.predict, model)
        pairs = [(elapsed_ms(predict), elapsed_ms(yardstick)) for _ in range(REPEATS)]
        found.append(tuple(map(min, zip(*pairs, strict=True))))  # the others were disturbed
    print(json.dumps(found))


if __name__ == "__main__":
    main()
