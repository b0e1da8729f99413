"""What ONNX Runtime really runs for a model, and what the walk says, counted in the same words."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime

from nas_edge.cpu import PLAIN, channel_block
from nas_edge.latency.graph import kernels_of
from nas_edge.targets.local import LocalTarget

# (domain, operator) of an optimised graph; where no domain decides, the operator alone.
BY_DOMAIN = {("com.microsoft.nchwc", "Conv"): "blocked convolution"}
BY_OPERATOR = {
    "plain convolution": ("Conv", "FusedConv"),
    "int8 convolution": ("QLinearConv",),
    "reorder to blocks": ("ReorderInput",),
    "reorder from blocks": ("ReorderOutput",),
    "transpose": ("Transpose",),
    "elementwise": (
        "Add",
        "Mul",
        "Sub",
        "Div",
        "Relu",
        "Clip",
        "HardSigmoid",
        "Sigmoid",
        "QuickGelu",
        "Tanh",
        "LeakyRelu",
    ),
    "int8 elementwise": ("QLinearAdd", "QLinearMul", "QLinearSigmoid"),
    "quantize": ("QuantizeLinear",),
    "dequantize": ("DequantizeLinear",),
    "product": ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat"),
    "softmax": ("Softmax", "QLinearSoftmax"),
    "mean over space": ("GlobalAveragePool", "QLinearGlobalAveragePool"),
    "pool": ("MaxPool", "AveragePool", "NhwcMaxPool", "QLinearAveragePool"),
    "concat": ("Concat", "QLinearConcat"),
    "slice": ("Split", "Slice"),
    "reduction": ("ReduceMean", "ReduceMax"),
    "resize": ("Resize", "Upsample"),
    "bookkeeping": ("Reshape", "Flatten", "Squeeze", "Unsqueeze"),
}
WORDS = {operator: word for word, operators in BY_OPERATOR.items() for operator in operators}
CONVOLUTIONS = {"pointwise", "dense", "depthwise", "grouped", "vector", "thin"}
KINDS = {
    "elementwise": ("add", "mul", "sub", "div", "elementwise", "activation", "transcendental", "swish", "hard_swish"),
    "product": ("gemm", "matmul"),
    "pool": ("average_pool", "max_pool"),
    "mean over space": ("global_pool",),
    "reduction": ("reduce", "reducemax", "reducemean"),
}
BY_KIND = {kind: word for word, kinds in KINDS.items() for kind in kinds}


def block_here() -> int:
    """The channels of a block on this machine."""
    return channel_block(LocalTarget().fingerprint())


def theirs(model: onnx.ModelProto, *, blocked: bool = True) -> Counter[str]:
    """The kernels in the graph that ONNX Runtime runs, as it writes it down; of plain channels where not `blocked`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[] if blocked else ["NchwcTransformer"],
        )
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    return Counter(BY_DOMAIN.get((n.domain, n.op_type)) or WORDS.get(n.op_type, n.op_type) for n in nodes)


def ours(model: onnx.ModelProto, *, blocked: bool = True) -> Counter[str]:
    """The kernels that the walk finds."""
    counted: Counter[str] = Counter()
    work = kernels_of(model, block=block_here() if blocked else PLAIN)
    assert work.unsupported == ()
    for kernel in work.kernels:
        counted[_word(kernel.kind)] += int(kernel.features["calls"])
    return counted


def _word(kind: str) -> str:
    int8 = kind.startswith("int8.")
    head, _, tail = kind.removeprefix("int8.").partition(".")
    if head in CONVOLUTIONS:
        return "int8 convolution" if int8 else "blocked convolution"
    if head in ("direct", "plain"):
        return f"{'plain' if head == 'plain' else 'blocked'} convolution"
    if head == "reorder":
        return {"channels_last": "transpose", "blocked": "reorder to blocks", "plain": "reorder from blocks"}[tail]
    word = BY_KIND.get(head, head)
    return "int8 elementwise" if int8 and word == "elementwise" else word
