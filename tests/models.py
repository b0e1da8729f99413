"""Small ONNX models that ask much of a device."""

from __future__ import annotations

from onnx import NodeProto, TensorProto, helper


def expanding_model(floats: int) -> bytes:
    """A model whose one intermediate value has so many floats."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [floats])
    nodes = [
        helper.make_node("Expand", ["input", "shape"], ["wide"]),
        helper.make_node("ReduceSum", ["wide"], ["output"], keepdims=0),
    ]
    return _model(nodes, [1], [shape])


def looping_model(times: int) -> bytes:
    """A model that multiplies a 256 x 256 matrix with itself so many times: about 1 ms each."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes"]),
            helper.make_node("MatMul", ["before", "before"], ["product"]),
            helper.make_node("Tanh", ["product"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [256, 256]),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [256, 256]),
        ],
    )
    count = helper.make_tensor("count", TensorProto.INT64, [], [times])
    going = helper.make_tensor("going0", TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("Loop", ["count", "going0", "input"], ["last"], body=body),
        helper.make_node("ReduceSum", ["last"], ["output"], keepdims=0),
    ]
    return _model(nodes, [256, 256], [count, going])


def _model(nodes: list[NodeProto], shape: list[int], constants: list[TensorProto]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [])],
        constants,
    )
    opset = helper.make_opsetid("", 17)
    data: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    return data
