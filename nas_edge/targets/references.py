"""Fixed networks that run beside the models of a campaign: how long they take tells how fast the device is just then.

Three, since not all that a device does slows down alike: a small float network whose data stays in the nearest cache,
a larger one that reads and writes megabytes, and a quantized one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from onnx import NodeProto, TensorProto

SMALL = "small"
# What a look spends on each, so that the three take less than a fifth of a campaign.
REFERENCES_MS = {SMALL: 2.0, "large": 3.0, "int8": 2.0}
CHANGED = 1  # raised with the networks: their times before and after cannot be compared


def reference_models() -> dict[str, bytes]:
    """The reference networks, as ONNX, by their names."""
    return {
        SMALL: reference_model(),
        "large": _reference(side=64, width=16, expansion=6, blocks=3),
        "int8": _reference(side=24, width=32, expansion=3, blocks=2, int8=True),
    }


def reference_model() -> bytes:
    """The small one, of about 0.1 ms, with the kernels that candidates spend their time in."""
    return _reference(side=16, width=32, expansion=3, blocks=3)


def _reference(*, side: int, width: int, expansion: int, blocks: int, int8: bool = False) -> bytes:
    """Inverted bottlenecks on images of that side, without steps between resolutions."""
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(int8)
    hidden = expansion * width
    value = graph.conv("input", "stem", (width, 3, 3, 3))
    for block in range(blocks):
        value = graph.conv(value, f"expand{block}", (hidden, width, 1, 1))
        value = graph.conv(value, f"depthwise{block}", (hidden, 1, 3, 3), group=hidden)
        value = graph.conv(value, f"project{block}", (width, hidden, 1, 1))
    graph.node("GlobalAveragePool", [graph.quantized(value, "last") if int8 else value], "output")
    made = helper.make_graph(
        graph.nodes,
        "reference",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, width, 1, 1])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


class _Graph:
    """Nodes and constants so far. A method returns the name of the value that it made."""

    def __init__(self, int8: bool) -> None:
        import numpy as np

        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._int8 = int8
        self._random = np.random.default_rng(0)

    def conv(self, source: str, name: str, shape: tuple[int, ...], group: int = 1) -> str:
        """A convolution with padding, and a ReLU."""
        import numpy as np

        weight = self._random.normal(0, shape[1] ** -0.5, shape).astype(np.float32)
        if self._int8:
            source = self.quantized(source, f"{name}.input")
            weights = self._dequantized(self._constant(f"{name}.levels", _levels(weight)), f"{name}.weight")
        else:
            weights = self._constant(f"{name}.weight", weight)
        pads = [shape[2] // 2] * 4
        self.node("Conv", [source, weights], name, group=group, pads=pads, kernel_shape=shape[2:])
        return self.node("Relu", [name], f"{name}.relu")

    def quantized(self, source: str, name: str) -> str:
        """The value as uint8 and back."""
        scale = self._constant(f"{name}.scale", _float(0.02))
        return self._dequantized(self.node("QuantizeLinear", [source, scale], f"{name}.levels"), name, scale)

    def _dequantized(self, levels: str, name: str, scale: str | None = None) -> str:
        return self.node("DequantizeLinear", [levels, scale or self._constant(f"{name}.scale", _float(0.01))], name)

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node with one output."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(value, name))
        return name


def _float(value: float) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.array(value, np.float32)


def _levels(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Weights as int8 at a scale of 0.01."""
    import numpy as np

    return np.clip(np.round(weight / 0.01), -127, 127).astype(np.int8)
