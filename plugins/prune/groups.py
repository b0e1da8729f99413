"""Which channels depend on each other: torch-pruning's dependency graph, kept to what can be traced safely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch_pruning
from torch import nn
from torch_pruning import ops

KEEP_MARK = "nas_edge_keep_channels"
OUTPUTS, MARKED, UNTRACEABLE = "the classifier's outputs", "marked to keep", "not traceable"

# Layers whose channels are cut one by one. The others tie channels in ways that the graph does not follow.
_LAYERS = {ops.OPTYPE.CONV, ops.OPTYPE.DEPTHWISE_CONV, ops.OPTYPE.BN, ops.OPTYPE.LINEAR, ops.OPTYPE.PRELU}
# Operations after which a channel is in another place, by the names that autograd gives them.
_MOVING = ("permute", "transpose", "bmm", "select", "index", "repeat", "roll", "pixel", "gather", "copyslices", "stack")


@dataclass(frozen=True)
class Part:
    """Where the units of a group stand in one of its layers.

    `channels` `[n]` are numbers along dimension `dim` of the layer's weight (0: its outputs, 1: its inputs), and
    `units` `[n]` says which unit each belongs to. `reads` is whether they are among the layer's inputs.
    """

    layer: nn.Module
    dim: int
    channels: torch.Tensor
    units: torch.Tensor
    reads: bool


@dataclass(frozen=True)
class PruningGroup:
    """Layers that lose their units together: single channels, or heads of `width` channels.

    `name` is that of the layer that numbers them, or of the attention. `cut` removes units by their numbers from all
    the layers.
    """

    name: str
    units: int
    width: int
    parts: tuple[Part, ...]
    why_kept: str | None
    cut: Callable[[list[int]], None]
    is_attention: bool = False

    @property
    def channels(self) -> int:
        return self.units * self.width


def trace(model: nn.Module, example: torch.Tensor) -> Any:
    """The dependency graph of a model in evaluation mode whose parameters take gradients, from one forward pass."""
    graph = torch_pruning.DependencyGraph().build_dependency(model, (example,), verbose=False)
    for node in graph.module2node.values():
        node.dependencies = [d for d in node.dependencies if not _independent(d.source, d.target)]
    return graph


def kept_whole(model: nn.Module) -> set[nn.Module]:
    """The modules that are marked to keep their channels, with all in them."""
    return {part for m in model.modules() if getattr(m, KEEP_MARK, False) for part in m.modules()}


def channel_groups(graph: Any, leave_out: set[nn.Module]) -> list[PruningGroup]:
    """All groups of single channels, but those whose channels leave a layer that is to be left out."""
    marked, names = kept_whole(graph.model), {m: name for name, m in graph.model.named_modules()}
    found = []
    for group in graph.get_all_groups():
        root, handler = group[0].dep.target.module, group[0].dep.handler
        if _producers(graph, group) & leave_out:
            continue
        why = _why_kept(graph, group, marked)
        parts = () if why else _parts(graph, group)
        cut = partial(_cut_channels, graph, root, handler)
        found.append(PruningGroup(names[root], graph.get_out_channels(root), 1, parts, why, cut))
    return found


def _cut_channels(graph: Any, root: nn.Module, handler: Any, channels: list[int]) -> None:
    """Remove channels, numbered as in the group's root, from every layer of the group."""
    graph.get_pruning_group(root, handler, channels).prune()


def _shape(node: Any) -> tuple[int, ...]:
    """The shape of what an operation gives, as autograd recorded it."""
    metadata = getattr(node.grad_fn, "_input_metadata", None)
    return tuple(metadata[0].shape) if metadata else ()


def _independent(one: Any, other: Any) -> bool:
    """Whether one of two neighbours has a single channel: a reduction over channels, or a map broadcast over them.

    Spatial attention has both. The graph takes each for an element-wise operation and would couple their channels.
    """
    source, target = (one, other) if other in one.outputs else (other, one)
    before, after = _shape(source), _shape(target)
    if target.type != ops.OPTYPE.ELEMENTWISE or len(before) != 4 or len(after) != 4:
        return False
    return before[1] != after[1] and 1 in (before[1], after[1])


def _producers(graph: Any, group: Any) -> set[Any]:
    """The modules that the group's channels leave."""
    return {dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)}


def _why_kept(graph: Any, group: Any, marked: set[nn.Module]) -> str | None:
    """Why a group must not be cut, or None."""
    nodes = [dep.target for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
    if any(not node.outputs for node in nodes):
        return OUTPUTS
    if any(node.module in marked for node in nodes if isinstance(node.module, nn.Module)):
        return MARKED
    if not all(_followed(dep.target) for dep, _ in group) or not _one_to_one(graph, group):
        return UNTRACEABLE
    return None


def _followed(node: Any) -> bool:
    """Whether the channels that leave an operation are those that enter it, in their order."""
    layer = node.module
    if node.type == ops.OPTYPE.DEPTHWISE_CONV:
        return bool(layer.in_channels == layer.out_channels and not layer.transposed)
    if node.type == ops.OPTYPE.CONV:
        return bool(layer.groups == 1 and not layer.transposed)
    if node.type in _LAYERS:
        return True
    after = _shape(node)
    if node.type == ops.OPTYPE.CONCAT:
        return len(after) in (2, 4) and after[1] == sum(_shape(n)[1] for n in node.inputs)
    if node.type == ops.OPTYPE.RESHAPE:
        return all(_flattens(_shape(n), after) for n in node.inputs)
    if node.type != ops.OPTYPE.ELEMENTWISE:
        return False
    name = node.grad_fn.name().lower()
    if "mm" in name:  # a linear layer on tokens is recorded as a product between two views
        return any(n.type == ops.OPTYPE.LINEAR for n in node.outputs)
    return not any(word in name for word in _MOVING) and all(_same_channels(_shape(n), after) for n in node.inputs)


def _flattens(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Images `[b, c, h, w]` to `[b, c * h * w]`, vectors to 1x1 images, tokens `[b, n, c]` to `[b * n, c]` and back."""
    if len(before) == 4 and len(after) == 2:
        return before[0] == after[0]
    if len(before) == 2 and len(after) == 4:
        return (*before, 1, 1) == after
    return len(before) in (2, 3) and len(after) in (2, 3) and before[-1] == after[-1]


def _same_channels(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Images keep dimension 1, tokens and vectors the last; a broadcast or a reduced channel was cut off before."""
    if len(before) == 4 and len(after) == 4:
        return before[1] == after[1] or 1 in (before[1], after[1])
    if len(before) == 4:
        return before[:2] == after
    return 4 not in (len(before), len(after)) and before[-1:] == after[-1:]


def _one_to_one(graph: Any, group: Any) -> bool:
    """Whether each channel of the root stands for equally many of each layer, and all outputs are covered."""
    channels = len(group[0].idxs)
    for item in group:
        layer, counts = item.dep.target, Counter(item.root_idxs)
        if len(counts) != channels or len(set(counts.values())) != 1 or len(set(item.idxs)) != len(item.idxs):
            return False
        if (
            layer.type in _LAYERS
            and graph.is_out_channel_pruning_fn(item.dep.handler)
            and graph.get_out_channels(layer) != len(item.idxs)
        ):
            return False
    return True


def _parts(graph: Any, group: Any) -> tuple[Part, ...]:
    """The group's layers with weights; a PReLU's slopes are cut along, but say nothing of a channel's importance."""
    found = []
    for item in group:
        node = item.dep.target
        weight = getattr(node.module, "weight", None)
        if node.type not in _LAYERS or node.type == ops.OPTYPE.PRELU or weight is None:
            continue
        inputs = weight.dim() > 1 and not graph.is_out_channel_pruning_fn(item.dep.handler)
        reads = inputs or node.type == ops.OPTYPE.DEPTHWISE_CONV
        found.append(Part(node.module, int(inputs), torch.tensor(item.idxs), torch.tensor(item.root_idxs), reads))
    return tuple(found)
