"""What each ONNX operator costs as kernels of ONNX Runtime: the table `HANDLERS`, operator -> handler."""

from __future__ import annotations

import math
from collections.abc import Callable

from nas_edge.latency.convolutions import convolution, product
from nas_edge.latency.walk import BLOCKED, CHANNELS_LAST, LANES, PLAIN, Node, Walk

Handler = Callable[[Walk, Node], None]
ELEMENTWISE = frozenset(("HardSwish", "HardSigmoid", "Sigmoid", "Mul", "Relu", "Clip", "LeakyRelu"))
ANY = frozenset((PLAIN, BLOCKED, CHANNELS_LAST))
UNBLOCKED = frozenset((PLAIN, CHANNELS_LAST))
SMALL_INTEGERS = 64  # a shape computation, not a tensor of images


def _sources(walk: Walk, node: Node) -> list[str]:
    """The computed values that a node reads."""
    return [walk.source(node, name) for name in walk.data_inputs(node)]


def _moved_kilobytes(walk: Walk, node: Node, sources: list[str]) -> float:
    """Activations read and written; a constant operand is read from the cache."""
    size = walk.types[sources[0]].element_bytes if sources and node.quantized else None
    written = walk.elements(node) * size / 1024 if size else walk.kilobytes(*node.outputs)
    return walk.kilobytes(*sources) + written


def _is_bookkeeping(walk: Walk, node: Node) -> bool:
    """Arithmetic on shapes: a few integers."""
    output = walk.types[node.outputs[0]]
    return output.element_bytes == 8 and output.elements <= SMALL_INTEGERS


def moving(kind: str, keeps: frozenset[str] = frozenset((PLAIN,)), calls: int = 1) -> Handler:
    """A handler for a kernel that is bound by the bytes it moves.

    It works in the layouts that it `keeps` and in plain channels otherwise; ONNX Runtime runs it as `calls` kernels.
    """

    def handle(walk: Walk, node: Node) -> None:
        if _is_bookkeeping(walk, node):
            walk.emit(node.name, "bookkeeping", {}, dims=(1,))
            return
        sources = _sources(walk, node)
        images = [s for s in sources if len(walk.shape(s)) == 4]
        layout = _common_layout(walk, node, images, keeps)
        for source in sources:
            walk.take(source, layout)
        spread, spans = _broadcast(walk, node, sources, layout)
        name = kind + spread
        if node.op in ("Concat", "QLinearConcat"):
            spans = _runs(walk, node, sources, layout)
        if layout == BLOCKED and (node.op == "Concat" or walk.same_batch(*sources)):
            walk.origins[node.outputs[0]] = walk.origin(sources[0])
        elif layout == BLOCKED:  # equal shapes are not known to be equal: so it runs on five axes
            for end in ("a", "b", "out"):
                walk.emit(f"{node.name}:{end}", "bookkeeping", {}, dims=(1,))
        name = f"int8.{name}" if node.quantized else name
        kilobytes = _moved_kilobytes(walk, node, sources)
        odd = spans if spans and walk.elements(node) // spans % LANES else 0
        work = {"kilobytes": kilobytes, "kilo_spans": spans / 1e3, "kilo_odd_spans": odd / 1e3}
        walk.emit(node.name, name, work, dims=(kilobytes, spans) if spans else (kilobytes,), calls=calls)
        walk.give(node, layout)

    return handle


def _broadcast(walk: Walk, node: Node, sources: list[str], layout: str) -> tuple[str, int]:
    """How a smaller operand is spread, each way another loop, and over how many spans that lie together.

    It is a constant, or is spread along channels or space: as a vector, or as one value for a span.
    """
    if node.op not in ("Add", "Mul", "Sub", "Div"):
        return "", 0
    if len(sources) < 2:
        return ".constant", 0
    first, second = (walk.shape(s) for s in sources[:2])
    if first == second or len(first) != 4 or len(second) != 4:
        return "", 0
    batch, channels, *sides = (max(pair) for pair in zip(first, second, strict=True))
    last = layout == CHANNELS_LAST
    spans = batch * (math.prod(sides) if last else channels)
    return (".over_channels" if first[1] != second[1] else ".over_space") + (".last" if last else ""), spans


def _runs(walk: Walk, node: Node, sources: list[str], layout: str) -> int:
    """How many runs of values a concatenation copies: what lies together of each input, outside its axis."""
    shape = walk.shape(node.outputs[0])
    axis = int(node.attribute("axis", 1)) % max(len(shape), 1)
    if layout == CHANNELS_LAST and axis == 1:
        return len(sources) * shape[0] * math.prod(shape[2:])
    return len(sources) * math.prod(shape[:axis])


def global_pool(walk: Walk, node: Node) -> None:
    """The mean of each channel: a pass over the image, and an end for each channel."""
    source = walk.source(node, node.inputs[0])
    layout = _common_layout(walk, node, [source], ANY)
    walk.take(source, layout)
    if layout == BLOCKED:
        walk.origins[node.outputs[0]] = walk.origin(source)
    channels = walk.elements(node)
    kilobytes = _moved_kilobytes(walk, node, [source])
    name = ("int8." if node.quantized else "") + "global_pool" + ("" if layout != PLAIN else ".plain")
    work = {"kilobytes": kilobytes, "kilo_outputs": channels / 1e3}
    walk.emit(node.name, name, work, dims=(kilobytes, channels))
    walk.give(node, layout)


def _common_layout(walk: Walk, node: Node, images: list[str], keeps: frozenset[str]) -> str:
    """The layout that a kernel works in: that of its largest input if it can, else plain."""
    if not images:
        return PLAIN
    layout = walk.layout(images[0] if len(images) == 1 else max(images, key=lambda name: walk.types[name].elements))
    if layout not in keeps:
        return PLAIN
    if layout != BLOCKED:
        return layout
    if node.op.startswith("Global") and walk.shape(images[0])[1] % walk.block:
        return PLAIN  # pools are for whole blocks alone
    if len(walk.data_inputs(node)) < len([name for name in node.inputs if name]) or len(images) > 1:
        equal = len({walk.shape(name) for name in images}) == 1 and len(images) == len(node.inputs)
        aligned = all(walk.shape(name)[1] % walk.block == 0 for name in images)
        fit = aligned if node.op == "Concat" else equal
        if not fit or any(walk.layout(name) != BLOCKED for name in images):
            return PLAIN
    return layout


def window(walk: Walk, node: Node) -> None:
    """Pooling over windows: its work is the taps that it reads."""
    image = walk.source(node, node.inputs[0])
    wanted = CHANNELS_LAST if node.quantized else BLOCKED
    whole_blocks = walk.block > 1 and walk.shape(image)[1] % walk.block == 0
    fits = walk.layout(image) == wanted if node.quantized else whole_blocks
    layout = wanted if fits else PLAIN
    if walk.layout(image) == layout == BLOCKED:
        walk.origins[node.outputs[0]] = walk.origin(image)
    walk.take(image, layout)
    taps = math.prod(node.attribute("kernel_shape", [1]))
    moved = _moved_kilobytes(walk, node, [image])
    kind = "max_pool" if node.op == "MaxPool" else "average_pool"
    walk.emit(
        node.name,
        ("int8." if node.quantized else "") + kind + ("" if layout == wanted else ".plain"),
        {"mega_macs": walk.elements(node) * taps / 1e6, "kilobytes": moved},
        dims=(moved, taps),
    )
    walk.give(node, layout)


def activation(keeps: frozenset[str]) -> Handler:
    """A handler for an activation that no convolution takes along.

    In int8 it is no kernel: values are clipped as they are quantized, which they are anew where the scale changes.
    """

    def handle(walk: Walk, node: Node) -> None:
        if not node.quantized:
            moving("activation", keeps)(walk, node)
            return
        if walk.rescales(node):
            kilobytes = walk.elements(node) * 5 / 1024  # int8 and float32
            for kind in ("dequantize", "quantize"):
                walk.emit(f"{node.name}:{kind}", kind, {"kilobytes": kilobytes}, dims=(kilobytes,))
        walk.give(node, walk.layout(walk.source(node, node.inputs[0])))

    return handle


def sigmoid(walk: Walk, node: Node) -> None:
    """Sigmoid; with the product with its own input, which is the swish activation, it is one kernel."""
    product_ = walk.sole_consumer(node.ends[0])
    swish = product_ is not None and sorted(product_.inputs) == sorted((node.inputs[0], node.ends[0]))
    if swish and not node.quantized and walk.absorb(node, ("Mul",)):
        moving("swish", ANY)(walk, node)
    else:
        moving("transcendental", ANY)(walk, node)


def resize(walk: Walk, node: Node) -> None:
    """Resize: positions are found for each row and column, then for each pixel a mean of its neighbours."""
    image = walk.source(node, node.inputs[0])
    walk.take(image, PLAIN)
    read, written = walk.types[image].elements, walk.elements(node)
    sides = walk.shape(node.outputs[0])[2:]
    mode = node.attribute("mode", b"nearest").decode()
    work = {
        "kilo_inputs": read / 1e3,
        "kilo_outputs": written / 1e3,
        "kilo_pixels": math.prod(sides) / 1e3,
        "kilo_sides": sum(sides) / 1e3,
    }
    walk.emit(node.name, f"resize.{mode}", work, dims=(written, read))
    walk.give(node, PLAIN)


def softmax(walk: Walk, node: Node) -> None:
    """Softmax over the last axis: a start for each row, then a pass over it."""
    source = walk.source(node, node.inputs[0])
    walk.take(source, PLAIN)
    columns, elements = walk.shape(source)[-1], walk.elements(node)
    rows = elements // max(columns, 1)
    work = {
        "kilo_rows": rows / 1e3,
        "mega_vectors": rows * -(-columns // LANES) / 1e6,
        "kilobytes": _moved_kilobytes(walk, node, [source]),
    }
    walk.emit(node.name, "softmax", work, dims=(rows, columns))
    walk.give(node, PLAIN)


def transpose(walk: Walk, node: Node) -> None:
    """Transpose; that of the last two axes is taken along by a float product that reads it."""
    perm = node.attribute("perm")
    reader = walk.sole_consumer(node.outputs[0])
    swaps = perm is not None and perm == [*range(len(perm) - 2), len(perm) - 1, len(perm) - 2]
    if swaps and reader is not None and reader.op == "MatMul" and not reader.quantized:
        walk.give(node, PLAIN)
        return
    moving("transpose")(walk, node)


_dequantize, _dequantize_plain = moving("dequantize", UNBLOCKED), moving("dequantize")


def dequantize(walk: Walk, node: Node) -> None:
    """DequantizeLinear costs only where float kernels read it, and for each of them anew."""
    readers = [r for r in walk.consumers.get(node.outputs[0], ()) if not r.quantized]
    flat = any(_wants_plain(walk, reader) for reader in readers)
    for _ in range(len(readers) + (node.outputs[0] in walk.outputs)):
        (_dequantize_plain if flat else _dequantize)(walk, node)
    walk.give(node, PLAIN if flat else walk.layout(node.inputs[0]))


def _wants_plain(walk: Walk, node: Node) -> bool:
    """Whether a float kernel, or what follows, needs plain channels: ONNX Runtime then turns the int8 map around."""
    if node.quantized:
        return False
    if node.op in ELEMENTWISE:
        return any(_wants_plain(walk, reader) for reader in walk.consumers.get(node.outputs[0], []))
    return node.op == "GlobalAveragePool" or (node.op == "ReduceMean" and not node.attribute("keepdims", 1))


def reduce(walk: Walk, node: Node) -> None:
    """A reduction over space, or over channels: they read memory in other orders, and another way for each operator."""
    source = walk.source(node, node.inputs[0])
    reduced, image = walk.shape(node.outputs[0]), walk.shape(source)
    channels = len(image) == 4 and len(reduced) == 4 and reduced[1] != image[1]
    if not channels:
        moving("reduce", UNBLOCKED)(walk, node)
        return
    layout = PLAIN if walk.layout(source) == BLOCKED else walk.layout(source)
    walk.take(source, layout)
    work = {"kilo_inputs": walk.types[source].elements / 1e3, "kilo_outputs": walk.elements(node) / 1e3}
    name = (
        ("int8." if node.quantized else "")
        + f"{node.op.lower()}.channels"
        + (".last" if layout == CHANNELS_LAST else "")
    )
    walk.emit(node.name, name, work, dims=(walk.elements(node), image[1]))
    walk.give(node, layout)


def view(walk: Walk, node: Node) -> None:
    """The same bytes under another shape; only a blocked or channels-last layout has to be undone."""
    for value in walk.data_inputs(node):
        source = walk.source(node, value)
        if source in walk.types:
            walk.take(source, PLAIN)
    walk.emit(node.name, "bookkeeping", {}, dims=(1,))
    walk.give(node, PLAIN)


def nothing(walk: Walk, node: Node) -> None:
    """Removed by ONNX Runtime on loading."""
    walk.give(node, walk.layout(walk.source(node, node.inputs[0])))


def _table() -> dict[str, Handler]:
    groups: list[tuple[Handler, tuple[str, ...]]] = [
        (convolution, ("Conv", "FusedConv", "QLinearConv", "ConvInteger")),
        (product, ("Gemm", "MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul")),
        (moving("add", ANY), ("Add", "Sum", "QLinearAdd")),
        (moving("mul", ANY), ("Mul", "QLinearMul")),
        (moving("sub", UNBLOCKED), ("Sub",)),
        (moving("div", UNBLOCKED), ("Div",)),
        (moving("elementwise", UNBLOCKED), ("Max", "Min", "BatchNormalization", "Neg", "Abs", "Sqrt")),
        (moving("elementwise", UNBLOCKED), ("PRelu", "Floor", "Ceil", "Round", "Reciprocal", "Greater", "Less", "Not")),
        (moving("elementwise", UNBLOCKED), ("GreaterOrEqual", "LessOrEqual", "Equal", "And", "Or", "Where", "Sign")),
        (activation(ANY), ("Relu",)),
        (activation(UNBLOCKED), ("Clip",)),
        (moving("activation", ANY), ("HardSigmoid",)),
        (moving("activation", UNBLOCKED), ("LeakyRelu", "ThresholdedRelu")),
        # Outside a blocked convolution it runs as a hard-sigmoid and a product.
        (moving("hard_swish", ANY, calls=2), ("HardSwish",)),
        (sigmoid, ("Sigmoid",)),
        (moving("transcendental", ANY), ("Tanh",)),
        (moving("transcendental", UNBLOCKED), ("Exp", "Log", "Erf", "Gelu", "FastGelu", "Softplus", "Mish", "Elu")),
        (moving("transcendental", UNBLOCKED), ("Pow", "Selu", "Celu", "Swish", "QuickGelu", "QLinearSigmoid")),
        (softmax, ("Softmax", "LogSoftmax")),
        (moving("normalization"), ("LayerNormalization", "InstanceNormalization", "GroupNormalization")),
        (moving("normalization"), ("SimplifiedLayerNormalization", "RMSNormalization", "LpNormalization", "LRN")),
        (global_pool, ("GlobalAveragePool", "GlobalMaxPool", "QLinearGlobalAveragePool")),
        (reduce, ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2", "ReduceProd", "ArgMax")),
        (window, ("MaxPool", "AveragePool", "QLinearAveragePool")),
        (resize, ("Resize", "Upsample")),
        (transpose, ("Transpose",)),
        (moving("transpose"), ("DepthToSpace", "SpaceToDepth")),
        (moving("concat", ANY), ("Concat", "QLinearConcat")),
        (moving("slice", UNBLOCKED), ("Slice", "Split")),
        (moving("copy"), ("Pad", "Gather", "Expand", "Tile", "Cast", "GatherND", "Range")),
        (moving("copy"), ("ConstantOfShape", "ScatterND", "GatherElements")),
        (moving("quantize", UNBLOCKED), ("QuantizeLinear", "DynamicQuantizeLinear")),
        (dequantize, ("DequantizeLinear",)),
        (view, ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Size")),
        (nothing, ("Identity", "Dropout")),
    ]
    return {op: handler for handler, ops in groups for op in ops}


HANDLERS: dict[str, Handler] = _table()
