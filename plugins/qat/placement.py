"""Where a network is rounded: the places at which ONNX Runtime needs integers to run integer kernels."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

Layer = nn.Conv2d | nn.Linear
Norm = nn.BatchNorm1d | nn.BatchNorm2d
# Activations that are nothing but the end of a grid: the highest value that they give.
CUTS: dict[Any, float | None] = {nn.ReLU: None, F.relu: None, torch.relu: None, "relu": None}
CUTS |= {nn.ReLU6: 6.0, F.relu6: 6.0}
SUMS: set[Any] = {operator.add, torch.add, "add", operator.mul, torch.mul, "mul"}
POOLING: set[Any] = {nn.AvgPool2d, nn.AdaptiveAvgPool2d, F.avg_pool2d, F.adaptive_avg_pool2d}
JOINS: set[Any] = {torch.cat, torch.concat}
# What gives some of the values that it takes, so that they stay on their grid.
SILENT = (nn.Identity, nn.Dropout, nn.Dropout2d)
MOVING_MODULES = (*SILENT, nn.Flatten, nn.Unflatten, nn.MaxPool2d, nn.ChannelShuffle, nn.PixelShuffle)
MOVING: set[Any] = {torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.squeeze, torch.unsqueeze}
MOVING |= {operator.getitem, F.max_pool2d, F.dropout}
MOVING |= {"flatten", "reshape", "view", "transpose", "permute", "squeeze", "unsqueeze", "contiguous"}
SPLITS: set[Any] = {torch.chunk, torch.split, "chunk", "split"}  # these give several tensors
MOVING |= SPLITS


class Network:
    """Questions about a traced network, `[batch, channels, height, width]` to logits.

    `shapes` has the shape of each float tensor for one `image`.
    """

    def __init__(self, traced: fx.GraphModule, image: Tensor) -> None:
        self.traced = traced
        self.nodes: list[fx.Node] = list(traced.graph.nodes)
        self.shapes = _Shapes(traced).of(image)
        self._modules = dict(traced.named_modules())
        self._calls: dict[Any, int] = {}
        for node in self.nodes:
            self._calls[node.target] = self._calls.get(node.target, 0) + 1

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls."""
        return self._modules[str(node.target)] if node.op == "call_module" else None

    def kind(self, node: fx.Node) -> Any:
        """What a node does: its module's class, its function, or its method's name."""
        module = self.module(node)
        return node.target if module is None else type(module)

    def layer(self, node: fx.Node) -> Layer | None:
        """The convolution or linear layer that a node calls, once in the network, of a kind with an integer kernel."""
        module = self.module(node)
        if not isinstance(module, Layer) or self._calls[node.target] != 1:
            return None
        padded = isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or isinstance(module.padding, str))
        return None if padded else module

    def is_moving(self, node: fx.Node) -> bool:
        """Whether the values that a node gives are among those of its first argument."""
        module = self.module(node)
        moving = self.kind(node) in MOVING if module is None else isinstance(module, MOVING_MODULES)
        return moving and node in self.shapes

    def is_following(self, node: fx.Node) -> bool:
        """Sums and products of activations, average pooling and concatenation."""
        kind = self.kind(node)
        if kind in SUMS:
            of_activations = all(self.is_float(a) and isinstance(a, fx.Node) and a.op != "get_attr" for a in node.args)
            return of_activations and not node.kwargs
        return kind in JOINS | POOLING and self.is_float(node)

    def is_float(self, node: Any) -> bool:
        """Whether an argument is a node that gives a float tensor (or several, of one)."""
        return isinstance(node, fx.Node) and node in self.shapes

    def is_silent(self, node: fx.Node) -> bool:
        """Whether a node is gone from the exported network."""
        return isinstance(self.module(node), SILENT) or self.kind(node) is F.dropout

    def is_tensor(self, node: fx.Node) -> bool:
        """Whether a node gives one float tensor."""
        return node in self.shapes and self.kind(node) not in SPLITS

    def source(self, node: fx.Node) -> fx.Node:
        """The node that computed the values which this one gives or moves."""
        while self.is_moving(node):
            node = node.all_input_nodes[0]
        return node

    def reader(self, node: fx.Node) -> fx.Node | None:
        """The one node that reads what a node gives; None where several do."""
        return next(iter(node.users)) if len(node.users) == 1 else None

    def norm(self, node: fx.Node) -> tuple[fx.Node, Norm] | None:
        """The batch normalisation that alone reads a layer, and reads it alone: its node and module."""
        reader = self.reader(node)
        module = self.module(reader) if reader is not None else None
        if reader is None or not isinstance(module, Norm) or self._calls[reader.target] != 1:
            return None
        fits = len(self.shapes[node]) == (4 if isinstance(module, nn.BatchNorm2d) else 2)
        return (reader, module) if fits and module.running_mean is not None else None

    def cut(self, node: fx.Node) -> fx.Node | None:
        """The ReLU or ReLU6 that alone reads a node."""
        reader = self.reader(node)
        return reader if reader is not None and self.kind(reader) in CUTS else None


class _Shapes(fx.Interpreter):
    """Runs a network once and keeps the shapes of its float tensors."""

    def of(self, image: Tensor) -> dict[fx.Node, tuple[int, ...]]:
        self.seen: dict[fx.Node, tuple[int, ...]] = {}
        self.run(image)
        return self.seen

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        first = result[0] if isinstance(result, tuple | list) and result else result
        if isinstance(first, Tensor) and first.is_floating_point():
            self.seen[n] = tuple(first.shape)
        return result


@dataclass(frozen=True)
class Plan:
    """The layers whose weights are rounded and the tensors that are, in order; and what is left in float, by kind.

    A tensor goes by the node that gives it.
    """

    layers: list[Layer]
    tensors: list[fx.Node]
    floating: list[str]


def plan(network: Network) -> Plan:
    """From the first layer on: what layers and operators with integer kernels take and give.

    A batch normalisation and a ReLU that belong to a layer, or a ReLU to a sum, come before the rounding. What only
    moves values leaves them on their grid. The logits of a linear layer and averages that are the logits stay in float.
    """
    layers: list[Layer] = []
    after: set[fx.Node] = set()
    on_grid: set[fx.Node] = set()
    rounded: set[fx.Node] = set()
    fused: set[fx.Node] = set()
    output = network.source(network.nodes[-1].all_input_nodes[0])

    def round_at(node: fx.Node) -> None:
        while node not in on_grid and network.is_silent(node):
            on_grid.add(node)
            node = node.all_input_nodes[0]
        if node not in on_grid:
            on_grid.add(node)
            rounded.add(node)

    for node in network.nodes:
        layer = network.layer(node)
        if layer is not None:
            layers.append(layer)
        if layer is not None or after.intersection(node.all_input_nodes):
            after.add(node)
        if network.is_moving(node) and node.all_input_nodes[0] in on_grid:
            on_grid.add(node)
        elif layer is not None or (node in after and network.is_following(node)):
            for taken in node.all_input_nodes:
                round_at(taken)
            members = _with_its_norm_and_cut(network, node, layer is not None)
            fused.update(members)
            if isinstance(layer, nn.Conv2d) or (layer is None and members[-1] is not output):
                round_at(members[-1])
    floating = {_name(network.kind(node)) for node in after - fused if _computes(network, node)}
    return Plan(layers, [node for node in network.nodes if node in rounded], sorted(floating))


def _with_its_norm_and_cut(network: Network, node: fx.Node, is_layer: bool) -> list[fx.Node]:
    """The nodes that become one integer kernel, the last of them being the one whose values are rounded."""
    norm = network.norm(node) if is_layer else None
    members = [node, norm[0]] if norm else [node]
    cut = network.cut(members[-1])
    return [*members, cut] if cut else members


def _computes(network: Network, node: fx.Node) -> bool:
    return node.op.startswith("call") and network.is_float(node) and not network.is_moving(node)


def _name(kind: type | Callable[..., Any] | str) -> str:
    return kind if isinstance(kind, str) else kind.__name__
