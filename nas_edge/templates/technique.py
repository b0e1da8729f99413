"""example: weights stored as float16, and cast back to float32 where the file is loaded."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nas_edge import Context, InvalidCandidate, Scope, Technique, hookimpl


@dataclass(frozen=True)
class ExampleConfig:
    least: int = 64  # a tensor of fewer weights is left as it is

    def __post_init__(self) -> None:
        if type(self.least) is not int or self.least < 1:
            raise InvalidCandidate(f"example: least={self.least!r} must be a whole number of at least 1; try 64")


class Example(Technique):
    name = "example"
    config_type = ExampleConfig
    exclusive = frozenset({"precision"})  # no other technique may decide how weights are stored
    summary = "float16 weights, cast where the file is loaded"

    def suggest(self, scope: Scope) -> ExampleConfig:
        return ExampleConfig(least=scope.suggest_int("least", 16, 1024, log=True))

    def graph(self, model: Any, config: ExampleConfig, context: Context) -> Any:
        import numpy as np
        from onnx import TensorProto, helper, numpy_helper

        model, casts, largest = copy.deepcopy(model), [], float(np.finfo(np.float16).max)
        for tensor in model.graph.initializer:
            weights = numpy_helper.to_array(tensor)
            if weights.dtype == np.float32 and weights.size >= config.least:
                name, half = tensor.name, weights.clip(-largest, largest).astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
                casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
        nodes = [*casts, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        context.note(f"{len(casts)} tensors as float16")
        return model


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(Example())
