"""The kernels of the walk against those of ONNX Runtime's own optimised graph, one for one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from nas_edge.cpu import WIDEST
from nas_edge.latency.probes import random_probe

from .families import FAMILIES, quantized
from .networks import Network
from .optimised import block_here, ours, theirs

# Where the walk is known to differ, by (ours, theirs). ONNX Runtime resizes blocked maps by whole numbers without
# taking them out of their blocks, and resizes int8 ones in float between their own quantizers.
KNOWN: dict[tuple[str, bool], dict[str, tuple[int, int]]] = {
    ("resized", False): {"reorder from blocks": (2, 1), "bookkeeping": (1, 4)},
    ("resized", True): {"quantize": (1, 2), "dequantize": (1, 2), "transpose": (4, 3)},
}


def difference(model: onnx.ModelProto, *, blocked: bool = True) -> dict[str, tuple[int, int]]:
    """The words of which the walk counts another number than ONNX Runtime runs."""
    walked, run = ours(model, blocked=blocked), theirs(model, blocked=blocked)
    return {word: (walked[word], run[word]) for word in walked | run if walked[word] != run[word]}


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_walked_as_it_runs(family: str, int8: bool) -> None:
    model = FAMILIES[family]()
    assert difference(quantized(model) if int8 else model) == KNOWN.get((family, int8), {})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_walked_as_it_runs_without_blocks(family: str) -> None:
    """As ONNX Runtime does on Arm."""
    assert difference(FAMILIES[family](), blocked=False) == {}


def test_the_families_hold_what_they_are_named_for() -> None:
    """The comparison above compares something: each kind of kernel is there, in float and in int8."""
    plain = {name: theirs(make()) for name, make in FAMILIES.items()}
    int8 = {name: theirs(quantized(make())) for name, make in FAMILIES.items()}
    assert plain["separable"]["blocked convolution"] == int8["separable"]["int8 convolution"] == 5
    # With AVX-512, 13 channels fill no block and are read as they are, and the 8 of a gate's pool fill none either.
    plain_convolutions, gates = (4, 7) if block_here() == WIDEST else (5, 5)
    assert plain["odd channels"]["plain convolution"] == plain_convolutions
    assert plain["squeeze-excite"]["reorder from blocks"] == gates and plain["squeeze-excite"]["elementwise"] == 2
    assert plain["spatial attention"]["reduction"] == 4 and int8["spatial attention"]["int8 elementwise"] >= 2
    assert plain["self-attention"]["product"] == 5 and plain["self-attention"]["softmax"] == 2
    assert int8["separable swish"]["quantize"] == 6 and int8["separable swish"]["transpose"] == 2


ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "Swish")


def activated(net: Network, value: str, activation: str) -> str:
    if activation == "Clip":
        bounds = [net.constant(np.array(bound, np.float32)) for bound in (0, 6)]
        return net.node("Clip", [value, *bounds])
    if activation == "Swish":
        return net.node("Mul", [value, net.node("Sigmoid", [value])])
    return net.node(activation, [value])


@pytest.mark.parametrize("place", ["convolution", "addition", "two readers"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_fused_where_onnx_runtime_fuses_them(activation: str, place: str) -> None:
    """Some run inside a convolution, some only before an addition, some on blocks, some on plain channels alone."""
    net = Network(32, 8)
    start = net.node("Relu", [net.conv("input", 32, 32)])
    value = net.conv(start, 32, 32)
    if place == "convolution":
        value = activated(net, value, activation)
    elif place == "addition":
        value = activated(net, net.node("Add", [start, value]), activation)
    else:
        value = net.node("Add", [value, net.conv(activated(net, value, activation), 32, 32)])
    pooled = net.node("Flatten", [net.node("GlobalAveragePool", [value])])
    assert difference(net.model(pooled, rank=2)) == {}


@pytest.mark.parametrize("channels", [8, 20, 21, 22, 24, 32])
@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool", "GlobalAveragePool"])
def test_pools_run_on_whole_blocks_alone(pool: str, channels: int) -> None:
    net = Network(3, 16)
    value = net.node("Relu", [net.conv("input", channels, 3, 3)])
    window = {} if pool.startswith("Global") else {"kernel_shape": [2, 2], "strides": [2, 2]}
    value = net.node("Relu", [net.conv(net.node(pool, [value], **window), 32, channels)])
    assert difference(net.model(net.node("Flatten", [net.node("GlobalAveragePool", [value])]), rank=2)) == {}


@pytest.mark.parametrize("widths", [(16, 32), (8, 8), (24, 16), (32, 21)])
def test_only_whole_blocks_are_concatenated_as_they_are(widths: tuple[int, int]) -> None:
    net = Network(3, 16)
    start = net.node("Relu", [net.conv("input", 32, 3, 3)])
    branches = [net.node("Relu", [net.conv(start, width, 32)]) for width in widths]
    value = net.conv(net.node("Concat", branches, axis=1), 16, sum(widths))
    assert difference(net.model(net.node("Flatten", [net.node("GlobalAveragePool", [value])]), rank=2)) == {}


@pytest.mark.parametrize("kernel", [1, 3])
def test_an_addition_whose_batch_is_unknown_runs_on_five_axes(kernel: int) -> None:
    """After a reshape, ONNX Runtime cannot tell that both operands have the same batch."""
    net = Network(3, 16)
    start = net.node("Relu", [net.conv("input", 32, 3, 3)])
    shaped = net.node("Reshape", [start, net.constant(np.array([-1, 32, 16, 16]))])
    apart = net.node("Add", [start, net.conv(shaped, 32, 32, kernel)])
    value = net.node("Add", [apart, net.conv(apart, 32, 32, kernel)])  # the same batch again, as both have it from one
    model = net.model(net.node("Flatten", [net.node("GlobalAveragePool", [value])]), rank=2)
    assert theirs(model)["bookkeeping"] == 5 and theirs(model)["elementwise"] == 1
    assert difference(model) == {}


# Two int8 shuffles in a row: ONNX Runtime turns a channels-last map around once more than the walk.
KNOWN_OF_PROBES = {33: {"transpose": (11, 17)}}


@pytest.mark.parametrize("seed", [*range(24), *KNOWN_OF_PROBES])
def test_probes_are_walked_as_they_run(seed: int) -> None:
    assert difference(random_probe(seed)) == KNOWN_OF_PROBES.get(seed, {})


@pytest.mark.parametrize("same_scale", [False, True])
def test_an_int8_activation_by_itself_is_a_change_of_scale(same_scale: bool) -> None:
    """A preactivated block: what a quantizer clips anyway is no kernel, but new scales are."""
    net = Network(16, 8)
    start = net.quantized(net.int8_conv(net.quantized("input"), 32, 16), zero=0)
    active = net.quantized(net.node("Relu", [start]), scale=0.02 if same_scale else 0.01, zero=0)
    value = net.quantized(net.node("Add", [start, net.quantized(net.int8_conv(active, 32, 32))]))
    value = net.node("Flatten", [net.quantized(net.node("GlobalAveragePool", [value]))])
    model = net.model(value, rank=2)
    assert theirs(model)["quantize"] == theirs(model)["dequantize"] == (1 if same_scale else 2)
    assert difference(model) == {}
