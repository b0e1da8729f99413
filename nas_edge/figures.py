"""Looks at a candidate between two steps: its size, its speed and its accuracy."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import onnx
import torch
from torch import nn
from torch.nn.utils import parametrize

from nas_edge.contracts import Context, Split
from nas_edge.errors import ExportError, ModelError
from nas_edge.estimate import Estimator, Latency
from nas_edge.export import accuracy, describe, export_onnx
from nas_edge.latency.graph import parameter_count, total_macs
from nas_edge.records import Figures

COMPRESSION_LEVEL = 6  # what zip, gzip and HTTP use unless told otherwise


@dataclass(frozen=True)
class Look:
    """What was seen of a candidate at one moment.

    `graph` is its network as ONNX where that was made, `exact` where it is of the torch model as it stands.
    """

    figures: Figures = field(default_factory=Figures)
    graph: onnx.ModelProto | None = None
    exact: bool = False
    latency: Latency | None = None

    def with_latency(self, latency: Latency | None) -> Look:
        ms, source = (latency.ms, latency.source) if latency else (None, None)
        return replace(self, latency=latency, figures=replace(self.figures, latency_ms=ms, latency_source=source))

    def then(self, later: Look) -> Look:
        """What is known after a later look: where it saw nothing, this one's, so that no change is lost."""
        known = {name: value for name, value in vars(later.figures).items() if value is not None}
        seen = replace(later, figures=replace(self.figures, **known))
        if later.latency is None and self.graph is not None:  # a latency and the network it is of stay together
            seen = replace(seen, graph=self.graph, latency=self.latency)
        return seen


@dataclass(frozen=True)
class Observer:
    """Without an estimator it looks only at what costs nothing; accuracy is that on at most `images` of validation."""

    context: Context
    estimator: Estimator | None = None
    properties: Mapping[str, str] = field(default_factory=dict)  # that the file will carry
    images: int | None = None

    @cached_property
    def split(self) -> Split:
        """The validation images that accuracy is seen on."""
        validation = self.context.data.validation
        return validation if self.images is None else validation.spread(self.images)

    @property
    def sees_all(self) -> bool:
        return len(self.split) == len(self.context.data.validation)

    def model(self, model: nn.Module) -> Look:
        """A torch model, as the file that it would be now.

        Weights that are computed while training count as they come out. Half-way through a technique a model need not
        be exportable: then its file is not known.
        """
        seen = Figures(parameters=sum(p.numel() for p in model.parameters()))
        if self.estimator is None:
            return Look(seen)
        if self.context.trained:
            right = self.context.trainer.accuracy(model, self.split)
            seen = replace(seen, accuracy=right)
        exact = not any(parametrize.is_parametrized(m) for m in model.modules())
        try:
            look = self._file(self.export(model if exact else baked(model)))
        except (ExportError, ModelError):
            return Look(seen)
        return replace(look, figures=replace(look.figures, accuracy=seen.accuracy), exact=exact)

    def export(self, model: nn.Module) -> onnx.ModelProto:
        """The model as the ONNX model that would ship. Raises `ExportError`."""
        data = self.context.data
        return describe(export_onnx(model, channels=data.channels, resolution=data.resolution), self.properties)

    def graph(self, graph: onnx.ModelProto) -> Look:
        """An ONNX model, with its accuracy in ONNX Runtime if it was trained."""
        if self.estimator is None:
            return Look(Figures(size_bytes=graph.ByteSize()), graph, exact=True)
        look = self._file(graph)
        right = accuracy(graph, self.split, self.context.target) if self.context.trained else None
        return replace(look, figures=replace(look.figures, accuracy=right))

    def comparable(self, before: Look, after: Look) -> tuple[Look, Look]:
        """Both with latencies of one source, predicted or else measured; without any where that cannot be."""
        sources = {look.latency.source if look.latency else None for look in (before, after)}
        if sources == {"predicted"} or sources == {"measured"}:
            return before, after
        if self.estimator is None or before.graph is None or after.graph is None:
            return before, after
        measured = self.estimator.try_measured
        return before.with_latency(measured(before.graph)), after.with_latency(measured(after.graph))

    def _file(self, graph: onnx.ModelProto) -> Look:
        latency = self.estimator.predicted(graph) if self.estimator else None
        return Look(counted(graph), graph, exact=True).with_latency(latency)


def counted(graph: onnx.ModelProto) -> Figures:
    """What is counted in a file: its parameters, MACs, bytes, and the bytes that compression leaves."""
    content = graph.SerializeToString(deterministic=True)
    return Figures(
        parameters=parameter_count(graph),
        macs=total_macs(graph),
        size_bytes=len(content),
        compressed_bytes=len(zlib.compress(content, COMPRESSION_LEVEL)),
    )


def baked(model: nn.Module) -> nn.Module:
    """A copy in which each tensor that is computed from others is a plain one, of the value that it has now.

    Raises `ExportError` where a parametrization cannot be removed.
    """
    model = copy.deepcopy(model)
    try:
        with torch.no_grad():
            for module in list(model.modules()):
                if parametrize.is_parametrized(module):
                    # The tensors are properties of a class that copies share, and are removed from there.
                    shared = type(module)
                    module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
                    for name in list(module.parametrizations):  # type: ignore[arg-type]
                        parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    except Exception as error:  # of a plugin's own parametrization
        raise ExportError(f"its weights cannot be written down: {type(error).__name__}: {error}") from error
    return model
