"""What each ONNX operator costs as kernels of ONNX Runtime: the table `HANDLERS`, operator -> handler."""

from __future__ import annotations

import math
from collections.abc import Callable

from nas_edge.latency.walk import BLOCK, BLOCKED, CHANNELS_LAST, PLAIN, Node, Walk

Handler = Callable[[Walk, Node], None]
SMALL_INTEGERS = 64  # a shape computation, not a tensor of images
PLAIN_ACTIVATIONS = frozenset(("Relu", "Clip", "HardSigmoid", "Sigmoid", "Tanh", "LeakyRelu"))
BLOCKED_ACTIVATIONS = PLAIN_ACTIVATIONS | {"HardSwish"}


def _up(channels: int) -> int:
    return -(-channels // BLOCK) * BLOCK


def _kind(group: int, channels: int, filters: int, kernel: tuple[int, ...], pixels: int) -> str:
    if group == 1:
        if pixels == 1:
            return "vector"  # a product with one column: bound by reading the weights
        return "pointwise" if math.prod(kernel) == 1 else "dense"
    return "depthwise" if group == channels == filters else "grouped"


def convolution(walk: Walk, node: Node) -> None:
    """Conv and its int8 forms; weights `[filters, channels / group, *kernel]`."""
    scheme = node.op in ("QLinearConv", "ConvInteger")
    image = walk.source(node, node.inputs[0])
    weight = node.inputs[3 if node.op == "QLinearConv" else 1]
    filters, group_channels, *kernel = walk.shape(weight)
    channels = walk.shape(image)[1]
    group = channels // group_channels
    pixels = math.prod(walk.shape(node.outputs[0])[2:]) * walk.shape(node.outputs[0])[0]
    kind = _kind(group, channels, filters, tuple(kernel), pixels)
    taps = math.prod(kernel)
    macs = pixels * filters * group_channels * taps
    if node.quantized or scheme:
        walk.take(image, CHANNELS_LAST)
        weight_bytes = filters * group_channels * taps
        traffic = walk.kilobytes(image) + _output_elements(walk, node) / 1024
        walk.emit(
            node.name,
            f"int8.{kind}",
            macs=macs,
            computed_macs=pixels * taps * _up(filters) * (1 if kind == "depthwise" else group_channels),
            kilobytes=traffic,
            weight_kilobytes=weight_bytes / 1024,
            taps=pixels * taps,
        )
        walk.give(node, CHANNELS_LAST)
        return
    blocked = len(kernel) == 2 and weight in walk.constants and _runs_blocked(kind, channels, group_channels, filters)
    layout = BLOCKED if blocked else PLAIN
    direct = blocked and group == 1 and channels < BLOCK  # reads plain channels itself
    walk.take(image, PLAIN if direct else layout)
    _absorb_followers(walk, node, layout)
    computed = macs
    if blocked:
        # In a depthwise convolution a padded channel costs once, in a dense one against every other.
        inner = 1 if kind == "depthwise" else group_channels if direct or kind == "grouped" else _up(group_channels)
        computed = pixels * _up(filters) * inner * taps
    walk.emit(
        node.name,
        ("stem" if direct and kind != "vector" else kind) if blocked else f"plain.{kind}",
        macs=macs,
        computed_macs=computed,
        kilobytes=walk.kilobytes(image, node.outputs[0]),
        weight_kilobytes=walk.kilobytes(weight) if weight in walk.types else filters * group_channels * taps / 256,
        taps=pixels * taps,
    )
    walk.give(node, layout)


def _runs_blocked(kind: str, channels: int, group_channels: int, filters: int) -> bool:
    """ONNX Runtime's conditions for its blocked convolutions (NchwcTransformer::TransformConv)."""
    if kind == "grouped":
        group = channels // group_channels
        return group_channels % BLOCK == 0 and (filters // group) % BLOCK == 0
    return channels % 4 == 0 or (kind != "depthwise" and channels < BLOCK)


def _absorb_followers(walk: Walk, node: Node, layout: str) -> None:
    walk.absorb(node, ("BatchNormalization",))
    activations = BLOCKED_ACTIVATIONS if layout == BLOCKED else PLAIN_ACTIVATIONS
    if walk.absorb(node, activations):
        return
    add = walk.sole_consumer(node.ends[0])
    if add is None or add.op != "Add" or add.quantized:
        return
    others = [name for name in add.inputs if name != node.ends[0]]
    if len(others) != 1 or others[0] in walk.constants or walk.shape(others[0]) != walk.shape(node.outputs[0]):
        return
    producer = walk.producers.get(others[0])
    ready = producer is None or producer.index < node.index
    if ready and walk.has(others[0], layout) and walk.absorb(node, ("Add",)):
        walk.absorb(node, activations)


def _output_elements(walk: Walk, node: Node) -> int:
    return sum(walk.types[name].elements for name in node.outputs)


def product(walk: Walk, node: Node) -> None:
    """Gemm and MatMul, float or int8: against weights, or of two computed matrices (`matmul`)."""
    data = [walk.source(node, name) for name in walk.data_inputs(node)]
    tensors = [name for name in node.inputs if name in walk.types and len(walk.shape(name)) >= 2]
    right = tensors[1] if len(tensors) > 1 else tensors[0]
    for value in data:
        walk.take(value, PLAIN)
    left = walk.shape(walk.source(node, node.inputs[0]))
    depth = left[0] if node.op == "Gemm" and node.attribute("transA", 0) else left[-1]
    elements = _output_elements(walk, node)
    static = right in walk.constants
    size = 1 if node.quantized or node.op in ("MatMulInteger", "QLinearMatMul") else 4
    walk.emit(
        node.name,
        ("int8." if size == 1 else "") + ("gemm" if static else "matmul"),
        macs=elements * depth,
        kilobytes=walk.kilobytes(*(v for v in data if v in walk.types)) + elements * size / 1024,
        weight_kilobytes=walk.types[right].elements * size / 1024 if static else 0.0,
    )
    walk.give(node, PLAIN)


def _moved_kilobytes(walk: Walk, node: Node) -> float:
    """Activations read and written; a constant operand is read from the cache."""
    sources = [walk.source(node, name) for name in walk.data_inputs(node)]
    size = walk.types[sources[0]].element_bytes if sources and node.quantized else None
    written = _output_elements(walk, node) * size / 1024 if size else walk.kilobytes(*node.outputs)
    return walk.kilobytes(*sources) + written


def _is_bookkeeping(walk: Walk, node: Node) -> bool:
    """Arithmetic on shapes: a few integers."""
    output = walk.types[node.outputs[0]]
    return output.element_bytes == 8 and output.elements <= SMALL_INTEGERS


def moving(kind: str, keeps: frozenset[str] = frozenset((PLAIN,)), passes: float = 1.0) -> Handler:
    """A handler for a kernel that is bound by the bytes it moves.

    It works in the layouts that it `keeps` and in plain channels otherwise; `passes` scales the bytes.
    """

    def handle(walk: Walk, node: Node) -> None:
        if _is_bookkeeping(walk, node):
            walk.emit(node.name, "bookkeeping")
            return
        sources = [walk.source(node, name) for name in walk.data_inputs(node)]
        images = [s for s in sources if len(walk.shape(s)) == 4]
        layout = _common_layout(walk, node, images, keeps)
        for source in sources:
            walk.take(source, layout)
        name = f"int8.{kind}" if node.quantized and kind not in ("copy", "transpose") else kind
        walk.emit(node.name, name, kilobytes=passes * _moved_kilobytes(walk, node))
        walk.give(node, layout)

    return handle


def _common_layout(walk: Walk, node: Node, images: list[str], keeps: frozenset[str]) -> str:
    """The layout that a kernel works in: that of its largest input if it can, else plain."""
    if not images:
        return PLAIN
    layout = walk.layout(max(images, key=lambda name: walk.types[name].elements))
    if layout not in keeps:
        return PLAIN
    several = len(walk.data_inputs(node)) < len([name for name in node.inputs if name]) or len(images) > 1
    if layout == BLOCKED and several:
        equal = len({walk.shape(name) for name in images}) == 1 and len(images) == len(node.inputs)
        aligned = node.op == "Concat" and all(walk.shape(name)[1] % BLOCK == 0 for name in images)
        if not (equal or aligned) or any(walk.layout(name) != BLOCKED for name in images):
            return PLAIN
    return layout


def window(walk: Walk, node: Node) -> None:
    """Pooling over windows: its work is the taps that it reads."""
    image = walk.source(node, node.inputs[0])
    wanted = CHANNELS_LAST if node.quantized else BLOCKED
    layout = wanted if walk.layout(image) == wanted else PLAIN
    walk.take(image, layout)
    taps = math.prod(node.attribute("kernel_shape", [1]))
    walk.emit(
        node.name,
        "int8.pool" if node.quantized else "pool",
        computed_macs=_output_elements(walk, node) * taps,
        kilobytes=_moved_kilobytes(walk, node),
    )
    walk.give(node, layout)


def resize(walk: Walk, node: Node) -> None:
    mode = node.attribute("mode", b"nearest").decode()
    moving(f"resize.{mode}")(walk, node)


def quantize(walk: Walk, node: Node) -> None:
    """QuantizeLinear that no int8 kernel takes along."""
    moving("quantize", frozenset((PLAIN, CHANNELS_LAST)))(walk, node)


def dequantize(walk: Walk, node: Node) -> None:
    """DequantizeLinear costs only where a float kernel reads it."""
    readers = walk.consumers.get(node.outputs[0], [])
    floats = node.outputs[0] in walk.outputs or any(not reader.quantized for reader in readers)
    if floats:
        moving("dequantize", frozenset((PLAIN, CHANNELS_LAST)))(walk, node)
    else:
        walk.give(node, walk.layout(node.inputs[0]))


def reduce(walk: Walk, node: Node) -> None:
    """A reduction over space, or over channels: they read memory in other orders."""
    reduced, image = walk.shape(node.outputs[0]), walk.shape(walk.source(node, node.inputs[0]))
    channels = len(image) == 4 and len(reduced) == 4 and reduced[1] != image[1]
    moving("reduce.channels" if channels else "reduce", frozenset((PLAIN, CHANNELS_LAST)))(walk, node)


def view(walk: Walk, node: Node) -> None:
    """The same bytes under another shape; only a blocked or channels-last layout has to be undone."""
    for value in walk.data_inputs(node):
        source = walk.source(node, value)
        if source in walk.types and math.prod(walk.shape(source)[2:]) > 1:
            walk.take(source, PLAIN)
    walk.emit(node.name, "bookkeeping")
    walk.give(node, PLAIN)


def nothing(walk: Walk, node: Node) -> None:
    """Removed by ONNX Runtime on loading."""
    walk.give(node, walk.layout(walk.source(node, node.inputs[0])))


ANY = frozenset((PLAIN, BLOCKED, CHANNELS_LAST))
UNBLOCKED = frozenset((PLAIN, CHANNELS_LAST))


def _table() -> dict[str, Handler]:
    groups: list[tuple[Handler, tuple[str, ...]]] = [
        (convolution, ("Conv", "FusedConv", "QLinearConv", "ConvInteger")),
        (product, ("Gemm", "MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul")),
        (moving("elementwise", ANY), ("Add", "Mul", "Sum", "QLinearAdd", "QLinearMul")),
        (moving("elementwise", UNBLOCKED), ("Sub", "Div", "Max", "Min", "BatchNormalization", "Neg", "Abs", "Sqrt")),
        (moving("elementwise", UNBLOCKED), ("PRelu", "Floor", "Ceil", "Round", "Reciprocal", "Greater", "Less", "Not")),
        (moving("elementwise", UNBLOCKED), ("GreaterOrEqual", "LessOrEqual", "Equal", "And", "Or", "Where", "Sign")),
        (moving("activation", ANY), ("Relu", "Clip", "LeakyRelu", "HardSigmoid", "ThresholdedRelu")),
        # Outside a blocked convolution it runs as a hard-sigmoid and a product.
        (moving("activation", UNBLOCKED, passes=2.5), ("HardSwish",)),
        (moving("transcendental", ANY), ("Sigmoid", "Tanh")),
        (moving("transcendental", UNBLOCKED), ("Exp", "Log", "Erf", "Gelu", "FastGelu", "Softplus", "Mish", "Elu")),
        (moving("transcendental", UNBLOCKED), ("Pow", "Selu", "Celu", "Swish", "QuickGelu", "QLinearSigmoid")),
        (moving("softmax"), ("Softmax", "LogSoftmax")),
        (moving("normalization"), ("LayerNormalization", "InstanceNormalization", "GroupNormalization")),
        (moving("normalization"), ("SimplifiedLayerNormalization", "RMSNormalization", "LpNormalization", "LRN")),
        (moving("global_pool", ANY), ("GlobalAveragePool", "GlobalMaxPool", "QLinearGlobalAveragePool")),
        (reduce, ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2", "ReduceProd", "ArgMax")),
        (window, ("MaxPool", "AveragePool", "QLinearAveragePool")),
        (resize, ("Resize", "Upsample")),
        (moving("transpose"), ("Transpose", "DepthToSpace", "SpaceToDepth")),
        (moving("copy", ANY), ("Concat", "QLinearConcat")),
        (moving("copy"), ("Slice", "Split", "Pad", "Gather", "Expand", "Tile", "Cast", "GatherND", "Range")),
        (moving("copy"), ("ConstantOfShape", "ScatterND", "GatherElements")),
        (quantize, ("QuantizeLinear", "DynamicQuantizeLinear")),
        (dequantize, ("DequantizeLinear",)),
        (view, ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Size")),
        (nothing, ("Identity", "Dropout")),
    ]
    return {op: handler for handler, ops in groups for op in ops}


HANDLERS: dict[str, Handler] = _table()
