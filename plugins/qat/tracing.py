"""A network as one flat graph of its layers and operators, by symbolic tracing."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from torch import fx, nn

OUT_OF_PLACE: dict[Callable[..., Any] | str, Callable[..., Any] | str] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    "add_": "add",
    "sub_": "sub",
    "mul_": "mul",
    "div_": "div",
    "relu_": "relu",
    "clamp_": "clamp",
}


class _Tracer(fx.Tracer):
    """Traces through all modules but torch's own layers, and those that are `opaque`."""

    def __init__(self, opaque: set[nn.Module]) -> None:
        super().__init__()
        self._opaque = opaque

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self._opaque or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, leaves: Iterable[nn.Module] = ()) -> tuple[fx.GraphModule, list[str]] | None:
    """The model as one flat graph that takes over its modules, and the names of those that cannot be traced.

    These, whose path depends on values or on the training mode, stay as they are: one step of the graph each, and so do
    the `leaves`. What would change its input in place gives a new tensor instead. None where the model itself cannot be
    traced.
    """
    modes = {module: module.training for module in model.modules()}
    leaves = frozenset(leaves)
    opaque: set[nn.Module] = set(leaves)
    graph = _graph(model, opaque)
    if graph is None:
        for module in reversed([m for m in model.modules() if not _Tracer(opaque).is_leaf_module(m, "")]):
            graph = _graph(module, opaque)  # parts come before what they are parts of, and the model last
            if graph is None:
                opaque.add(module)
    for module, training in modes.items():
        module.training = training
    if graph is None:
        return None
    _out_of_place(graph, model)
    traced = fx.GraphModule(model, graph, class_name="Traced")
    return traced, [name for name, module in traced.named_modules() if module in opaque - leaves]


def _graph(model: nn.Module, opaque: set[nn.Module]) -> fx.Graph | None:
    """The graph of a model, or None where it cannot be traced or is another one in training."""
    graphs = []
    for training in (True, False):
        model.train(training)
        try:
            graphs.append(_Tracer(opaque).trace(model))
        except Exception:  # whatever a model's own code raises when it meets a value that is not there yet
            return None
    return graphs[1] if str(graphs[0]) == str(graphs[1]) else None


def _out_of_place(graph: fx.Graph, model: nn.Module) -> None:
    """A quantizer keeps what it gave for its gradient, so nothing may overwrite it."""
    for node in graph.nodes:
        node.target = OUT_OF_PLACE.get(node.target, node.target)
        if "inplace" in node.kwargs:
            node.kwargs = {**node.kwargs, "inplace": False}
    for module in model.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
