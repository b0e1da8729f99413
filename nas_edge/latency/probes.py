"""Random networks of common blocks: for kernels that a search space's own candidates have too seldom or not at all.

A profile that only saw one space could not price the dense, grouped and concatenating convolutions of other families.
Each probe is a stem, some blocks of different kinds and a classifier, with random widths, kernels and resolution.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas_edge.latency.static_int8 import static_int8

OPSET = 17
SIDES = (24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224)
MMACS = (15.0, 900.0)  # a probe stops growing at an amount between
MAX_BLOCKS = 14
INT8_SHARE = 0.45
HEADS = (256, 512, 576, 960, 1024, 1280)
ACTIVATIONS = ("Relu", "Relu", "Clip", "HardSwish", "Silu")
CALIBRATION_IMAGES = 2


def random_probe(seed: int) -> onnx.ModelProto:
    """One probe, float32 or statically quantized to int8 (QDQ); the same for the same seed."""
    draw = random.Random(seed)
    model = _Builder(draw).network()
    return _quantized(model, draw) if draw.random() < INT8_SHARE else model


class _Builder:
    """Adds layers to one graph; `value`, `channels` and `side` are those of the tensor at its end."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.random = np.random.default_rng(draw.randrange(1 << 30))
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.mmacs = 0.0
        self.most_mmacs = math.exp(draw.uniform(*map(math.log, MMACS)))
        self.value, self.channels, self.side = "input", 3, draw.choice(SIDES)
        self.activation = draw.choice(ACTIVATIONS)

    def network(self) -> onnx.ModelProto:
        side = self.side
        width = self.draw.choice((16, 24, 32, 48, 64))
        self.conv(width, self.draw.choice((3, 3, 5, 7)), stride=2 if side >= 64 else self.draw.choice((1, 2)))
        self.act()
        kinds = self.draw.sample(BLOCKS, 3)
        for _ in range(self.draw.randrange(2, MAX_BLOCKS + 1)):
            if self.mmacs > self.most_mmacs or self.side < 3:
                break
            self.draw.choice(kinds)(self)
        classes = self.draw.choice((10, 100, 1000, 1000))
        self.head(classes)
        graph = helper.make_graph(
            self.nodes,
            "probe",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, side, side])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)

    def node(
        self, op: str, *others: str, source: str | None = None, output: str | None = None, **attributes: Any
    ) -> str:
        name = output or f"{op}_{len(self.nodes)}"
        inputs = [self.value if source is None else source, *others]
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.value = name
        return name

    def constant(self, values: npt.NDArray[Any]) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, *shape: int) -> str:
        scale = max(int(np.prod(shape[1:])), 1) ** -0.5
        return self.constant(self.random.normal(0, scale, shape).astype(np.float32))

    def conv(self, filters: int, kernel: int, *, stride: int = 1, group: int = 1) -> None:
        self.side = -(-self.side // stride)
        self.mmacs += self.side**2 * filters * self.channels // group * kernel**2 / 1e6
        self.node(
            "Conv",
            self.weight(filters, self.channels // group, kernel, kernel),
            self.weight(filters),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=group,
        )
        self.channels = filters

    def act(self, name: str | None = None) -> None:
        name = name or self.activation
        if name == "Silu":
            source = self.value
            self.node("Mul", self.node("Sigmoid"), source=source)
        elif name == "Clip":
            self.node("Clip", self.constant(np.array(0, np.float32)), self.constant(np.array(6, np.float32)))
        else:
            self.node(name)

    def squeeze_excite(self) -> None:
        source, channels, side = self.value, self.channels, self.side
        self.node("GlobalAveragePool")
        self.side = 1
        self.conv(max(8, channels // self.draw.choice((4, 8, 16))), 1)
        self.act("Relu")
        self.conv(channels, 1)
        gate = self.node(self.draw.choice(("Sigmoid", "HardSigmoid")))
        self.node("Mul", gate, source=source)
        self.side = side

    def head(self, classes: int) -> None:
        """The classifier; before it often a wide pointwise layer or a hidden one: most of a network's weights."""
        if self.draw.random() < 0.5:
            self.conv(max(self.draw.choice(HEADS), self.channels), 1)
            self.act()
        if self.draw.random() < 0.3:  # as x.mean() is exported
            self.node("ReduceMean", axes=[2, 3], keepdims=0)
        else:
            self.node("GlobalAveragePool")
            self.node("Flatten")
        if self.draw.random() < 0.3:
            self.linear(self.draw.choice(HEADS))
            self.act()
        self.linear(classes, output="logits")

    def linear(self, columns: int, output: str | None = None) -> None:
        self.node("Gemm", self.weight(columns, self.channels), self.weight(columns), transB=1, output=output)
        self.channels = columns

    def width(self) -> int:
        """Near the width so far or wider; most often a multiple of 8, as networks have them; wider on small maps."""
        wider = self.channels * self.draw.choice((1.0, 1.5, 2.0, 3.0) if self.side <= 14 else (1.0, 1.0, 1.5, 2.0))
        step = self.draw.choice((4, 8, 8, 16, 16))
        return min(max(round(wider / step) * step, step * 2), 512)

    def stride(self) -> int:
        return 2 if self.side >= 6 and self.draw.random() < 0.4 else 1

    def dense(self) -> None:
        self.conv(self.width(), self.draw.choice((1, 3, 3, 5)), stride=self.stride())
        self.act()

    def preactivated(self) -> None:
        """Activation before the convolution, and its input added afterwards."""
        source = self.value
        self.act("Relu")
        self.conv(self.channels, self.draw.choice((1, 3)))
        self.node("Add", source)

    def residual(self) -> None:
        source, channels, stride = self.value, self.channels, self.stride()
        filters = self.width()
        self.conv(filters, 3, stride=stride)
        self.act()
        self.conv(filters, 3)
        self._add_shortcut(source, channels, stride)
        self.act()

    def bottleneck(self) -> None:
        """With grouped convolutions, and often squeeze and excitation."""
        source, channels, stride = self.value, self.channels, self.stride()
        group_width = self.draw.choice((8, 16, 16, 24, 32))
        filters = max(self.width() // group_width, 1) * group_width
        self.conv(filters, 1)
        self.act()
        self.conv(filters, 3, stride=stride, group=filters // group_width)
        self.act()
        if self.draw.random() < 0.5:
            self.squeeze_excite()
        self.conv(filters, 1)
        self._add_shortcut(source, channels, stride)
        self.act()

    def inverted(self) -> None:
        source, channels, stride = self.value, self.channels, self.stride()
        filters = channels if self.draw.random() < 0.5 else self.width()
        hidden = channels * self.draw.choice((1, 3, 4, 6))
        if hidden > channels:
            self.conv(hidden, 1)
            self.act()
        self.conv(hidden, self.draw.choice((3, 3, 5)), stride=stride, group=hidden)
        self.act()
        if self.draw.random() < 0.4:
            self.squeeze_excite()
        self.conv(filters, 1)
        if stride == 1 and filters == channels:
            self.node("Add", source)

    def fire(self) -> None:
        """Two convolutions of one narrow tensor, concatenated."""
        narrow = max(16, self.channels // self.draw.choice((4, 8)) // 8 * 8)
        self.conv(narrow, 1)
        self.act("Relu")
        source, wide = self.value, self.width() // 2
        branches = []
        for kernel in (1, 3):
            self.value, self.channels = source, narrow
            self.conv(wide, kernel)
            self.act("Relu")
            branches.append(self.value)
        self.node("Concat", branches[1], source=branches[0], axis=1)
        self.channels = 2 * wide

    def shuffle(self) -> None:
        """Half of the channels through a depthwise branch, then all of them interleaved."""
        half, side = self.channels // 2, self.side
        if self.channels % 2:
            return self.dense()
        first, second = f"split_{len(self.nodes)}_0", f"split_{len(self.nodes)}_1"
        sizes = self.constant(np.array([half, half], dtype=np.int64))
        self.nodes.append(helper.make_node("Split", [self.value, sizes], [first, second], name=first, axis=1))
        self.value, self.channels = second, half
        self.conv(half, 1)
        self.act("Relu")
        self.conv(half, 3, group=half)
        self.conv(half, 1)
        self.act("Relu")
        self.node("Concat", self.value, source=first, axis=1)
        self.node("Reshape", self.constant(np.array([-1, 2, half, side, side], dtype=np.int64)))
        self.node("Transpose", perm=[0, 2, 1, 3, 4])
        self.node("Reshape", self.constant(np.array([-1, 2 * half, side, side], dtype=np.int64)))
        self.channels = 2 * half
        return None

    def pool(self) -> None:
        if self.side < 7:
            return
        op = self.draw.choice(("MaxPool", "MaxPool", "AveragePool"))
        self.node(op, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        self.side = (self.side - 1) // 2 + 1

    def _add_shortcut(self, source: str, channels: int, stride: int) -> None:
        if stride == 1 and channels == self.channels:
            self.node("Add", source)
            return
        branch, filters, side = self.value, self.channels, self.side
        self.value, self.channels, self.side = source, channels, side * stride
        self.conv(filters, 1, stride=stride)
        self.side = side
        self.node("Add", branch)


BLOCKS: tuple[Callable[[_Builder], None], ...] = (
    _Builder.dense,
    _Builder.preactivated,
    _Builder.residual,
    _Builder.bottleneck,
    _Builder.inverted,
    _Builder.inverted,
    _Builder.fire,
    _Builder.shuffle,
    _Builder.pool,
)


def _quantized(model: onnx.ModelProto, draw: random.Random) -> onnx.ModelProto:
    """In int8, per channel or per tensor, on random images."""
    shape = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    generator = np.random.default_rng(draw.randrange(1 << 30))
    images = [generator.random(shape, dtype=np.float32) for _ in range(CALIBRATION_IMAGES)]
    return static_int8(model, images, per_channel=draw.random() < 0.8)
