"""What convolutions and matrix products cost as kernels of ONNX Runtime on a CPU.

The features follow the loops of its kernels (MLAS): float convolutions on blocked channels walk over rows of the image
in sets of four blocks of filters, and leave columns and borders that do not fill a register tile to slower loops; int8
ones pack their input for a matrix product; depthwise int8 kernels work on 16 channels at once where 16 divides them,
and else on 8 and on single ones.
"""

from __future__ import annotations

import math

from nas_edge.errors import ModelError
from nas_edge.latency.walk import BLOCKED, CHANNELS_LAST, LANES, PLAIN, Node, Walk

SET = 4  # blocks of filters that one call of a blocked kernel computes
TILES = {16: 6, 8: 3}  # columns that it computes at once, by the channels of a block
TILE_DEPTH = 64  # of a tile of the matrix unit, which int8 products use where the CPU has one
THIN = 4  # int8 pixels of fewer channels are gathered by single bytes
BATCH = 128  # input channels of one pass of a pointwise kernel
PLAIN_ACTIVATIONS = frozenset(("Relu", "Clip", "HardSigmoid", "Sigmoid", "Tanh", "LeakyRelu"))
BLOCKED_ACTIVATIONS = PLAIN_ACTIVATIONS | {"HardSwish"}
PRODUCT_ACTIVATIONS = frozenset(("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Elu", "Selu", "Softplus"))
EARLY = frozenset(("Clip", "LeakyRelu"))  # fused before channels are blocked, so not after an addition


def up(count: int, step: int = LANES) -> int:
    """Rounded up to a multiple."""
    return -(-count // step) * step


def _kind(group: int, channels: int, filters: int, taps: int, pixels: int) -> str:
    if group == 1:
        if pixels == 1:
            return "vector"  # a product with one column: bound by reading the weights
        return "pointwise" if taps == 1 else "dense"
    return "depthwise" if group == channels == filters else "grouped"


def convolution(walk: Walk, node: Node) -> None:
    """Conv and its int8 forms; weights `[filters, channels / group, *kernel]`."""
    scheme = node.op in ("QLinearConv", "ConvInteger")
    image = walk.source(node, node.inputs[0])
    weight = node.inputs[3 if node.op == "QLinearConv" else 1]
    filters, group_channels, *kernel = walk.shape(weight)
    batch, channels = walk.shape(image)[:2]
    if channels % group_channels or filters % (channels // group_channels):
        raise ModelError(
            f"not a sound ONNX graph: {node.op} {node.name!r} takes {channels} channels in groups of {group_channels} "
            f"to {filters} filters"
        )
    sides = walk.shape(node.outputs[0])[2:]
    pixels, taps = batch * math.prod(sides), math.prod(kernel)
    kind = _kind(channels // group_channels, channels, filters, taps, pixels)
    height = _kernel_rows(walk, node, image, kernel[0])
    strided = math.prod(walk.shape(image)[2:]) != math.prod(sides)
    width = sides[-1] if sides else 1
    shape = _Shape(kind, channels, group_channels, filters, taps, kernel[0], height, pixels, width, strided)
    dims = (channels, filters, pixels, taps, math.prod(walk.shape(image)[2:]))
    if node.quantized or scheme:
        walk.take(image, CHANNELS_LAST)
        moved = walk.kilobytes(image) + walk.elements(node) / 1024
        thin = "thin." if kind == "dense" and channels < THIN else ""
        walk.emit(node.name, f"int8.{thin}{kind}", shape.int8() | {"kilobytes": moved}, dims=dims, macs=shape.macs)
        walk.give(node, CHANNELS_LAST)
        return
    blocked = len(kernel) == 2 and weight in walk.constants and shape.runs_blocked(walk.block)
    layout = BLOCKED if blocked else PLAIN
    direct = (
        blocked and kind in ("pointwise", "dense", "vector") and channels < walk.block
    )  # reads plain channels itself
    if blocked and not direct and walk.layout(image) == BLOCKED:
        walk.origins[node.outputs[0]] = walk.origin(image)
    walk.take(image, PLAIN if direct else layout)
    fused = _absorb_followers(walk, node, layout)
    elements = pixels * (up(filters, walk.block) if blocked else filters)
    kilobytes = (math.prod(walk.shape(image)) + elements) / 256
    if blocked and not direct:
        kilobytes += batch * (up(channels, walk.block) - channels) * math.prod(walk.shape(image)[2:]) / 256
    work = (shape.blocked(walk.block, direct) if blocked else shape.plain()) | {"kilobytes": kilobytes}
    for name in fused:
        work[f"{name.lower()}_kilobytes"] = elements / 256
    name = (f"direct.{kind}" if direct else kind) if blocked else f"plain.{kind}"
    walk.emit(node.name, name, work, dims=dims, macs=shape.macs)
    walk.give(node, layout)


class _Shape:
    """The sizes of one convolution, and the work of each kind of kernel for it."""

    def __init__(
        self,
        kind: str,
        channels: int,
        inner: int,
        filters: int,
        taps: int,
        height: int,
        rows_inside: float,
        pixels: int,
        width: int,
        strided: bool,
    ) -> None:
        self.kind, self.channels, self.inner, self.filters = kind, channels, inner, filters
        self.taps, self.height, self.rows_inside, self.pixels, self.width = taps, height, rows_inside, pixels, width
        self.strided = strided
        self.macs = pixels * filters * inner * taps

    def runs_blocked(self, block: int) -> bool:
        """ONNX Runtime's conditions for its blocked convolutions (NchwcTransformer::TransformConv)."""
        if block == 1:
            return False
        if self.kind == "grouped":
            group = self.channels // self.inner
            return self.inner % block == 0 and (self.filters // group) % block == 0
        return self.channels % 4 == 0 or (self.kind != "depthwise" and self.channels < block)

    def blocked(self, block: int, direct: bool) -> dict[str, float]:
        depthwise = self.kind == "depthwise"
        groups = self.channels // self.inner if self.kind == "grouped" else 1
        blocks = up(self.filters // groups, block) // block  # of one group, whose sets hold no filters of others
        sets = blocks if depthwise else groups * -(-blocks // SET)
        # In a depthwise convolution a padded channel costs once, in a dense one against every other.
        inner = 1 if depthwise else self.inner if direct or self.kind == "grouped" else up(self.inner, block)
        computed = self.pixels * up(self.filters, block) * inner * self.taps * self.rows_inside / self.height / 1e6
        passes = -(-inner // BATCH) if self.taps == 1 else 1 if depthwise or direct else inner // block
        flat = self.taps == 1 and not self.strided  # then the whole image is one row
        rows = 1 if flat else self.pixels / self.width
        odd = (self.pixels if flat else self.width - 2 * (self.height // 2)) % TILES[block]
        single = 0 if self.taps == 1 else min(2 * (self.height // 2), self.width)
        work = {
            "mega_macs": computed,
            "weight_kilobytes": self.filters * inner * self.taps / 256,
            "kilo_rows": rows * sets * passes * self.rows_inside / 1e3,
            "mega_odd_macs": computed * rows * odd / self.pixels,
        }
        if single:
            work["mega_border_macs"] = computed * rows * single / self.pixels
        if not depthwise and (last := blocks % SET):
            # A set with fewer blocks has fewer sums under way at once.
            work[f"mega_macs_of_{last}_blocks"] = computed * last / blocks
        if depthwise or direct:
            work["kilo_row_taps"] = rows * sets * self.taps * self.rows_inside / self.height / 1e3
        return work

    def plain(self) -> dict[str, float]:
        groups = self.channels / self.inner
        return {
            "kilo_groups": groups / 1e3 if groups > 1 else 0.0,
            "mega_macs": self.macs / 1e6,
            "weight_kilobytes": self.filters * self.inner * self.taps / 256,
            "kilo_taps": self.pixels * self.taps * (self.channels if self.inner > 1 else self.filters) / 1e6,
        }

    def int8(self) -> dict[str, float]:
        points = self.pixels * self.taps / 1e3
        work = {"weight_kilobytes": self.filters * self.inner * self.taps / 1024}
        if self.kind == "depthwise":
            work |= {"kilo_taps": points, "kilo_pixels": self.pixels * up(self.filters) / 1e6}
            if self.filters % LANES == 0:
                work["kilo_tap_blocks"] = points * (self.filters // LANES)
            else:
                work["kilo_tap_halves"] = points * (self.filters // 8)
                work["kilo_tap_singles"] = points * (self.filters % 8)
            return work
        group = self.filters if self.kind != "grouped" else self.filters * self.inner // self.channels
        groups = self.filters // max(group, 1)
        work |= {
            "mega_macs": self.pixels * up(self.inner * self.taps, 4) * up(group) * groups / 1e6,
            "mega_tile_macs": up(self.pixels) * up(self.inner * self.taps, TILE_DEPTH) * up(group) * groups / 1e6,
            "kilo_pixels": self.pixels * groups / 1e3,
            "kilo_narrow_pixels": self.pixels * groups / 1e3 if group < LANES else 0.0,
            "mega_outputs": self.pixels * up(group) * groups / 1e6,
        }
        if self.taps > 1 or self.strided:  # its input is gathered first
            rows = self.pixels * self.height / 1e3
            work |= {"kilo_taps": points, "kilo_rows": rows, "mega_packed": points * self.channels / 1e3}
        return work


def _kernel_rows(walk: Walk, node: Node, image: str, height: int) -> float:
    """How many rows of the kernel lie inside the image, the mean over the output's rows; others are skipped."""
    source, result = walk.shape(image)[2:], walk.shape(node.outputs[0])[2:]
    if len(source) < 2 or height == 1:
        return float(height)
    stride, dilation = node.attribute("strides", [1])[0], node.attribute("dilations", [1])[0]
    top = node.attribute("pads", [0])[0]
    rows = 0
    for tap in range(height):
        offset = tap * dilation - top
        first, last = max(0, -(offset // stride)), min(result[0] - 1, (source[0] - 1 - offset) // stride)
        rows += max(0, last - first + 1)
    return float(rows) / max(result[0], 1)


def _absorb_followers(walk: Walk, node: Node, layout: str) -> list[str]:
    """The operators that run inside the convolution: an addition before its activation; those that cost a pass."""
    walk.absorb(node, ("BatchNormalization",))
    activations = BLOCKED_ACTIVATIONS if layout == BLOCKED else PLAIN_ACTIVATIONS
    if follower := walk.absorb(node, activations):
        return [follower.op]
    add = walk.sole_consumer(node.ends[0])
    if add is None or add.op != "Add" or add.quantized:
        return []
    others = [name for name in add.inputs if name != node.ends[0]]
    if len(others) != 1 or others[0] in walk.constants or walk.shape(others[0]) != walk.shape(node.outputs[0]):
        return []
    if not (walk.same_batch if layout == BLOCKED else walk.named_batch)(others[0], node.outputs[0]):
        return []
    producer = walk.producers.get(others[0])
    ready = producer is None or producer.index < node.index
    if ready and walk.layout(others[0]) == layout and walk.absorb(node, ("Add",)):
        follower = walk.absorb(node, activations - EARLY if layout == BLOCKED else activations)
        return ["Add", follower.op] if follower else ["Add"]
    return []


def product(walk: Walk, node: Node) -> None:
    """Gemm and MatMul, float or int8: against weights, or of two computed matrices (`matmul`)."""
    data = [walk.source(node, name) for name in walk.data_inputs(node)]
    left = walk.shape(walk.source(node, node.inputs[0]))
    tensors = [name for name in node.inputs if name in walk.types and len(walk.shape(name)) >= 2]
    tensors = tensors or node.inputs[:2]  # vectors
    right = tensors[1] if len(tensors) > 1 else tensors[0]
    for value in data:
        walk.take(value, PLAIN)
    depth = left[0] if node.op == "Gemm" and node.attribute("transA", 0) else left[-1]
    elements = walk.elements(node)
    columns = (walk.shape(node.outputs[0]) or (1,))[-1]
    static = right in walk.constants
    if not static and not node.quantized:  # a product with a constant is part of it
        scale = walk.sole_consumer(node.ends[0])
        if scale is not None and scale.op in ("Mul", "Div") and len(walk.data_inputs(scale)) == 1:
            walk.absorb(node, (scale.op,))
    if node.op == "Gemm" and not node.quantized:
        walk.absorb(node, PRODUCT_ACTIVATIONS)
    size = 1 if node.quantized or node.op in ("MatMulInteger", "QLinearMatMul") else 4
    rows = elements // columns
    work = {
        "mega_macs": rows * up(columns) * depth / 1e6,
        "kilobytes": walk.kilobytes(*(v for v in data if v in walk.types)) + elements * size / 1024,
        "weight_kilobytes": walk.types[right].elements * size / 1024 if static else 0.0,
    }
    kind = ("int8." if size == 1 else "") + ("gemm" if static else "matmul")
    walk.emit(node.name, kind, work, dims=(rows, columns, depth), macs=elements * depth)
    walk.give(node, PLAIN)
