"""Which node of the profiler is which kernel: on graphs as ONNX Runtime really runs them, and where names mislead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
import pytest

from nas_edge.latency.convolutions import up
from nas_edge.latency.graph import kernels_of
from nas_edge.latency.matching import NodeTime, matched
from nas_edge.latency.walk import KernelWork
from nas_edge.targets.client import AgentClient
from nas_edge.targets.local import LocalTarget

from .families import FAMILIES, quantized
from .networks import Network
from .optimised import block_here

# Where the walk is known to differ from what runs (`test_fidelity.KNOWN`), and one transpose of another size.
KNOWN_SHARES = {("resized", False): 0.7, ("resized", True): 0.7, ("separable swish", True): 0.95}


@pytest.fixture(scope="module")
def client() -> Iterator[AgentClient]:
    with AgentClient(LocalTarget().start) as started:
        yield started


def profiled(client: AgentClient, model: onnx.ModelProto) -> list[NodeTime]:
    """What the agent's profiler says of a model on this machine."""
    identity = client.load(model.SerializeToString(), profile_ms=5.0)
    return [NodeTime.parse(node) for node in client.nodes(identity)]


def node(name: str, operator: str, microseconds: float, *shape: int, written: Sequence[int] = ()) -> NodeTime:
    return NodeTime(name, operator, microseconds, ("float", shape), ("float", written or shape))


def times_of(model: onnx.ModelProto, nodes: Sequence[NodeTime]) -> list[tuple[str, float]]:
    """The matched kernels by name, in microseconds."""
    return [(kernel.name, 1e3 * ms) for kernel, ms in matched(model, kernels_of(model), nodes)]


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_all_kernels_are_found_and_are_the_right_ones(client: AgentClient, family: str, int8: bool) -> None:
    """Each node is given as many microseconds as it writes values: so a kernel's time tells its node."""
    model = quantized(FAMILIES[family]()) if int8 else FAMILIES[family]()
    marked = [n._replace(microseconds=float(math.prod(n.written[1]))) for n in profiled(client, model)]
    work = kernels_of(model, block=block_here())
    found = matched(model, work, marked)
    least = KNOWN_SHARES.get((family, int8), 1.0)
    assert counted(k for k, _ in found) >= least * counted(work.kernels)
    convolutions = [(k, round(1e3 * ms)) for k, ms in found if k.macs and len(k.dims) == 5]
    assert len(convolutions) == sum(bool(k.macs) and len(k.dims) == 5 for k in work.kernels) > 0
    for kernel, values in convolutions:
        assert values in written_by(kernel)


def counted(kernels: Iterable[KernelWork]) -> int:
    return sum(kernel.kind != "bookkeeping" for kernel in kernels)


def written_by(kernel: KernelWork) -> set[int]:
    """The values that a convolution may write: the real ones, or in whole blocks."""
    _, filters, pixels, *_ = map(round, kernel.dims)
    return {pixels * filters, pixels * up(filters, block_here())}


def test_a_fused_node_keeps_its_first_name() -> None:
    net = Network(32, 8)
    model = net.model(net.conv("input", 32, 32))
    assert times_of(model, [node("conv0_token_17", "Conv", 7.0, 1, 32, 8, 8)])[0] == ("conv0", 7.0)


def test_a_blocked_convolution_goes_by_the_value_that_it_leaves() -> None:
    net = Network(32, 8)
    value = net.node("Relu", [net.conv("input", 32, 32)])
    model = net.model(net.node("Relu", [net.conv(value, 32, 32)]))
    nodes = [node("relu3_nchwc", "Conv", 3.0, 1, 32, 8, 8), node("relu1_nchwc", "Conv", 2.0, 1, 32, 8, 8)]
    assert times_of(model, nodes)[:2] == [("conv0", 2.0), ("conv2", 3.0)]


def test_a_name_that_begins_another_is_not_taken_for_it() -> None:
    """The first product is gone: what is left has a name that begins with its own."""
    net = Network(4, 4)
    net.nodes.append(onnx.helper.make_node("Sigmoid", ["input"], ["first"], name="gate"))
    net.nodes.append(onnx.helper.make_node("Sigmoid", ["first"], ["second"], name="gate_1"))
    model = net.model("second")
    assert times_of(model, [node("gate_1", "Sigmoid", 5.0, 1, 4, 4, 4)]) == [("gate_1", 5.0)]


def test_two_nodes_for_one_kernel_are_not_guessed_between() -> None:
    net = Network(4, 4)
    model = net.model(net.node("Sigmoid", ["input"]))
    both = [node(f"sigmoid0_token_{i}", "Sigmoid", 5.0, 1, 4, 4, 4) for i in (1, 2)]
    assert times_of(model, both) == []
    assert times_of(model, [*both, node("sigmoid0", "Sigmoid", 6.0, 1, 4, 4, 4)]) == [("sigmoid0", 6.0)]


def test_changes_of_layout_are_known_by_size_and_get_the_median_of_their_like() -> None:
    net = Network(32, 8)
    value = net.node("Resize", [net.conv("input", 32, 32), "", net.constant(SCALES)], mode="linear")
    model = net.model(value)
    reorders = [node(f"ReorderOutput_token_{i}", "ReorderOutput", us, 1, 32, 8, 8) for i, us in enumerate((4, 5, 90))]
    other = node("ReorderOutput_token_9", "ReorderOutput", 70.0, 1, 32, 4, 4)
    found = dict(times_of(model, [*reorders, other]))
    assert found == {"conv0:plain": 5.0}


SCALES = np.array([1, 1, 2, 2], np.float32)


def test_transposes_count_where_they_bring_channels_last_or_back() -> None:
    net = Network(16, 8)
    value = net.quantized(net.int8_conv(net.quantized("input"), 16, 16))
    model = net.model(value)
    there = NodeTime("Transpose", "Transpose", 6.0, ("uint8", (1, 16, 8, 8)), ("uint8", (1, 8, 8, 16)))
    other = NodeTime("Transpose_1", "Transpose", 60.0, ("uint8", (1, 16, 8, 8)), ("uint8", (1, 8, 16, 8)))
    found = [us for name, us in times_of(model, [there, other]) if name.endswith(":channels_last")]
    assert found == [6.0]
