"""ONNX networks made by hand: exact ones for closed forms, and random mobile networks to calibrate on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Network:
    """Builds an ONNX graph node by node; each method returns the name of the value that it made."""

    def __init__(self, channels: int, resolution: int, *, batch: int | str = "batch", seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._generator = np.random.default_rng(seed)
        self._count = 0
        self._input = helper.make_tensor_value_info(
            "input", TensorProto.FLOAT, [batch, channels, resolution, resolution]
        )

    def weight(self, *shape: int) -> str:
        """A fresh random float weight."""
        self._count += 1
        name = f"weight{self._count}"
        self.weights.append(numpy_helper.from_array(self._generator.normal(0, 0.1, shape).astype(np.float32), name))
        return name

    def constant(self, value: np.ndarray[Any, Any]) -> str:
        self._count += 1
        self.weights.append(numpy_helper.from_array(value, f"constant{self._count}"))
        return f"constant{self._count}"

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def conv(
        self, value: str, filters: int, group_channels: int, kernel: int = 1, *, stride: int = 1, group: int = 1
    ) -> str:
        return self.node(
            "Conv",
            [value, self.weight(filters, group_channels, kernel, kernel), self.weight(filters)],
            group=group,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )

    def quantized(self, value: str, *, scale: float = 0.02, zero: int = 128, dtype: type[np.generic] = np.uint8) -> str:
        """The value through QuantizeLinear and DequantizeLinear, as uint8 or what else is asked for."""
        parameters = [self.constant(np.array(scale, np.float32)), self.constant(np.array(zero, dtype))]
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [value, *parameters]), *parameters])

    def int8_conv(self, value: str, filters: int, group_channels: int, kernel: int = 1, *, group: int = 1) -> str:
        """A convolution of a dequantized value with dequantized int8 weights."""
        shape = (filters, group_channels, kernel, kernel)
        levels = self.constant(self._generator.integers(-100, 100, shape).astype(np.int8))
        scale, zero = self.constant(np.array(0.01, np.float32)), self.constant(np.array(0, np.int8))
        weight = self.node("DequantizeLinear", [levels, scale, zero])
        return self.node("Conv", [value, weight], group=group, kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4)

    def model(self, output: str, rank: int = 4, opset: int = 17) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "network",
            [self._input],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * rank)],
            self.weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10
        )
        onnx.checker.check_model(model)
        return model


def random_mobile(seed: int) -> onnx.ModelProto:
    """A small random network of inverted residuals, some with squeeze-excite, on 3 channels."""
    choose = random.Random(seed)
    net = Network(3, choose.choice([16, 24, 32]), seed=seed)
    width = choose.choice([8, 16, 24])
    value = net.node("Relu", [net.conv("input", width, 3, 3, stride=2)])
    for _ in range(choose.randint(1, 3)):
        hidden, filters = width * choose.choice([2, 4]), choose.choice([16, 24, 32])
        kernel, activation = choose.choice([3, 5]), choose.choice(["Relu", "HardSwish"])
        value = net.node(activation, [net.conv(value, hidden, width)])
        value = net.node(activation, [net.conv(value, hidden, 1, kernel, group=hidden)])
        if choose.random() < 0.4:
            pooled = net.node("GlobalAveragePool", [value])
            gate = net.node("HardSigmoid", [net.conv(net.node("Relu", [net.conv(pooled, 8, hidden)]), hidden, 8)])
            value = net.node("Mul", [value, gate])
        value = net.conv(value, filters, hidden)
        width = filters
    flat = net.node("Flatten", [net.node("GlobalAveragePool", [value])])
    return net.model(net.node("Gemm", [flat, net.weight(10, width)], transB=1), rank=2)
