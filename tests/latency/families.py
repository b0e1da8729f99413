"""Small networks of the families that the search spaces and torchvision have, float32 and int8, with random weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from nas_edge.latency.static_int8 import static_int8

from .networks import Network

IMAGES = 2
Attention = Callable[[Network, str, int], str]


def classified(net: Network, value: str, channels: int) -> onnx.ModelProto:
    """The network that ends in a mean over space and a linear classifier."""
    flat = net.node("Flatten", [net.node("GlobalAveragePool", [value])])
    return net.model(net.node("Gemm", [flat, net.weight(10, channels), net.weight(10)], transB=1), rank=2)


def separable(stem: int = 16, activation: str = "Relu") -> onnx.ModelProto:
    """Depthwise and pointwise convolutions in turn."""
    net = Network(3, 32)
    value = net.node(activation, [net.conv("input", stem, 3, 3, stride=2)])
    for width, stride in ((stem, 1), (2 * stem, 2)):
        value = net.node(activation, [net.conv(value, width, 1, 3, stride=stride, group=width)])
        value = net.node(activation, [net.conv(value, 2 * width, width)])
    return classified(net, value, 4 * stem)


def inverted_residual(width: int = 24, activation: str = "HardSwish") -> onnx.ModelProto:
    """Two blocks with a shortcut, with a strided one between them."""
    net = Network(3, 32)
    value = net.node(activation, [net.conv("input", width, 3, 3, stride=2)])
    value = inverted(net, value, width, width, activation)
    value = inverted(net, value, width, 2 * width, activation, stride=2)
    value = inverted(net, value, 2 * width, 2 * width, activation)
    return classified(net, value, 2 * width)


def inverted(
    net: Network,
    value: str,
    width: int,
    filters: int,
    activation: str,
    *,
    stride: int = 1,
    attend: Attention | None = None,
) -> str:
    hidden = 4 * width
    inner = net.node(activation, [net.conv(value, hidden, width)])
    inner = net.node(activation, [net.conv(inner, hidden, 1, 3, stride=stride, group=hidden)])
    inner = attend(net, inner, hidden) if attend else inner
    inner = net.conv(inner, filters, hidden)
    return net.node("Add", [value, inner]) if stride == 1 and width == filters else inner


def squeeze_excite(net: Network, value: str, channels: int) -> str:
    pooled = net.node("GlobalAveragePool", [value])
    hidden = net.node("Relu", [net.conv(pooled, 8, channels)])
    return net.node("Mul", [value, net.node("HardSigmoid", [net.conv(hidden, channels, 8)])])


def spatial_attention(net: Network, value: str, channels: int) -> str:
    """A gate for each pixel, from the mean and the maximum over channels (CBAM)."""
    mean = net.node("ReduceMean", [value], axes=[1])
    most = net.node("ReduceMax", [value], axes=[1])
    both = net.node("Concat", [mean, most], axis=1)
    return net.node("Mul", [value, net.node("HardSigmoid", [net.conv(both, 1, 2, 7)])])


def self_attention(net: Network, value: str, channels: int) -> str:
    """Heads of 16 channels over an 8 x 8 map, with keys and values from a 4 x 4 one, added to its input."""
    heads, positions, keys = channels // 16, 64, 16
    pooled = net.node("AveragePool", [value], kernel_shape=[2, 2], strides=[2, 2])

    def split(source: str, pixels: int) -> str:
        shape = net.constant(np.array([-1, heads, 16, pixels]))
        return net.node("Reshape", [net.conv(source, channels, channels), shape])

    query = net.node("Transpose", [split(value, positions)], perm=[0, 1, 3, 2])
    scores = net.node("MatMul", [query, split(pooled, keys)])
    scores = net.node("Mul", [scores, net.constant(np.array(0.25, np.float32))])
    weights = net.node("Transpose", [net.node("Softmax", [scores], axis=-1)], perm=[0, 1, 3, 2])
    mixed = net.node("MatMul", [split(pooled, keys), weights])
    image = net.node("Reshape", [mixed, net.constant(np.array([-1, channels, 8, 8]))])
    return net.node("Add", [value, net.conv(image, channels, channels)])


def attentive(attend: Attention, width: int = 16) -> onnx.ModelProto:
    """Inverted residuals with an attention before the projection, on 8 x 8 maps."""
    net = Network(3, 32)
    value = net.node("Relu", [net.conv("input", width, 3, 3, stride=2)])
    value = inverted(net, value, width, 2 * width, "Relu", stride=2, attend=attend)
    value = inverted(net, value, 2 * width, 2 * width, "Relu", attend=attend)
    return classified(net, value, 2 * width)


def low_rank(rank: int = 12) -> onnx.ModelProto:
    """Pointwise convolutions and a classifier as products of two thin ones."""
    net = Network(3, 32)
    value = net.node("Relu", [net.conv("input", 32, 3, 3, stride=2)])
    for width, filters in ((32, 64), (64, 64)):
        value = net.node("Relu", [net.conv(net.conv(value, rank, width), filters, rank)])
        value = net.node("Relu", [net.conv(value, filters, 1, 3, stride=2, group=filters)])
    flat = net.node("Flatten", [net.node("GlobalAveragePool", [value])])
    thin = net.node("Gemm", [flat, net.weight(rank, 64)], transB=1)
    return net.model(net.node("Gemm", [thin, net.weight(10, rank), net.weight(10)], transB=1), rank=2)


def odd_channels() -> onnx.ModelProto:
    """What pruning leaves: widths that no block divides, some of which ONNX Runtime runs on plain channels."""
    net = Network(3, 32)
    value = net.node("Relu", [net.conv("input", 13, 3, 3, stride=2)])
    value = net.node("Relu", [net.conv(value, 37, 13)])
    value = net.node("Relu", [net.conv(value, 37, 1, 3, stride=2, group=37)])
    value = net.node("Relu", [net.conv(value, 20, 37)])
    value = net.node("Relu", [net.conv(value, 50, 20)])
    value = net.node("Relu", [net.conv(value, 50, 1, 5, group=50)])
    return classified(net, net.conv(value, 20, 50), 20)


def residual(width: int = 32) -> onnx.ModelProto:
    """Basic blocks of dense 3 x 3 convolutions after a max pooling, the second with a projected shortcut."""
    net = Network(3, 32)
    value = net.node("Relu", [net.conv("input", width, 3, 7, stride=2)])
    value = net.node("MaxPool", [value], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for filters, stride in ((width, 1), (2 * width, 2)):
        inner = net.node("Relu", [net.conv(value, filters, width, 3, stride=stride)])
        inner = net.conv(inner, filters, filters, 3)
        shortcut = value if stride == 1 else net.conv(value, filters, width, 1, stride=stride)
        value, width = net.node("Relu", [net.node("Add", [inner, shortcut])]), filters
    return classified(net, value, width)


def fire() -> onnx.ModelProto:
    """Branches of one narrow map, concatenated (SqueezeNet)."""
    net = Network(3, 32)
    value = net.node("Relu", [net.conv("input", 32, 3, 3, stride=2)])
    narrow = net.node("Relu", [net.conv(value, 16, 32)])
    branches = [net.node("Relu", [net.conv(narrow, 32, 16, kernel)]) for kernel in (1, 3)]
    return classified(net, net.node("Concat", branches, axis=1), 64)


def resized() -> onnx.ModelProto:
    """A coarse map brought to the size of a fine one and added to it."""
    net = Network(3, 32)
    fine = net.node("Relu", [net.conv("input", 32, 3, 3, stride=2)])
    coarse = net.node("Relu", [net.conv(fine, 32, 32, 3, stride=2)])
    sizes = net.constant(np.array([1, 1, 2, 2], np.float32))
    larger = net.node("Resize", [coarse, "", sizes], mode="linear", coordinate_transformation_mode="half_pixel")
    return classified(net, net.node("Add", [fine, larger]), 32)


FAMILIES: dict[str, Callable[[], onnx.ModelProto]] = {
    "separable": separable,
    "separable swish": lambda: separable(activation="HardSwish"),
    "inverted residual": inverted_residual,
    "inverted residual relu": lambda: inverted_residual(16, "Relu"),
    "squeeze-excite": lambda: attentive(squeeze_excite),
    "spatial attention": lambda: attentive(spatial_attention),
    "self-attention": lambda: attentive(self_attention),
    "low rank": low_rank,
    "odd channels": odd_channels,
    "residual": residual,
    "fire": fire,
    "resized": resized,
}


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network in static int8 as ONNX Runtime's own tool makes it: QDQ, a scale for each channel."""
    shape = [dim.dim_value or 1 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    generator = np.random.default_rng(0)
    return static_int8(model, [generator.random(shape, dtype=np.float32) for _ in range(IMAGES)])
