"""Makes a file from a small network and techniques, the way the engine does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import onnx
import pluggy
from torch import nn

from nas_edge import hookspecs, pipeline
from nas_edge.contracts import Context
from nas_edge.export import export_onnx
from nas_edge.plugins import Registry
from nas_edge.steps import ActiveStep, call
from nas_edge.testing.networks import made

SAMPLES = 32


class Made(NamedTuple):
    """The network after its last change, as it is exported, and the file after the graph stages."""

    model: nn.Module
    exported: onnx.ModelProto
    final: onnx.ModelProto

    @property
    def content(self) -> bytes:
        found: bytes = self.final.SerializeToString(deterministic=True)
        return found


@functools.cache
def engine() -> Registry:
    """A registry whose one plugin is the engine's own implementation of `apply_technique`."""
    hooks = pluggy.PluginManager("nas_edge")
    hooks.add_hookspecs(hookspecs)
    hooks.register(pipeline)
    return Registry(hooks)


def make(steps: Sequence[ActiveStep], network: Callable[[], nn.Module], context: Context) -> Made:
    """The file that these techniques, in this order, make of a network; trained for a step where the context trains."""
    model: nn.Module = made(network)
    for step in steps:
        model = call(engine(), step, "structure", model, context)
    if context.trained:
        objectives = [call(engine(), step, "objective", model, context) for step in steps]
        model = context.trainer.fit(model, samples=SAMPLES, objectives=[o for o in objectives if o is not None])
    for step in steps:
        model = call(engine(), step, "finalize", model, context)
    model.eval()
    exported = final = export_onnx(model, channels=context.data.channels, resolution=context.data.resolution)
    for step in steps:
        final = call(engine(), step, "graph", final, context)
    return Made(model, exported, final)
