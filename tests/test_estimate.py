"""How often a candidate's networks are measured."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import nn

from nas_edge.estimate import Estimator, layers_sha256
from nas_edge.export import export_onnx

from .test_gate import Bench
from .test_pipeline import make_registry


def network(seed: int, filters: int = 4, stride: int = 1) -> onnx.ModelProto:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, filters, 3, stride), nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(1, 1, 8, 8))
    return export_onnx(model.eval(), channels=1, resolution=8)


def test_other_weights_are_not_measured_again(tmp_path: Path) -> None:
    target = Bench()
    estimator = Estimator(make_registry(), target, tmp_path)
    first = estimator.measured(network(0))
    assert estimator.measured(network(1)) == first
    assert len(target.asked) == 1
    assert estimator.measured(network(0, filters=5)) != first
    assert estimator.measured(network(0, stride=2)) != first
    assert len(target.asked) == 3
    assert Estimator(make_registry(), target, tmp_path).measured(network(0)) == first
    assert len(target.asked) == 4, "another candidate's networks are its own"


def test_weights_of_another_type_are_other_layers() -> None:
    """And so are other shapes that are constants of the graph; the weights of what is compared stay as they are."""
    model = network(0)
    before = model.SerializeToString(deterministic=True)
    found = {layers_sha256(model)}
    assert model.SerializeToString(deterministic=True) == before
    for constant in model.graph.initializer:
        other = onnx.ModelProto()
        other.CopyFrom(model)
        (same,) = [c for c in other.graph.initializer if c.name == constant.name]
        values = onnx.numpy_helper.to_array(constant)
        same.CopyFrom(onnx.numpy_helper.from_array(values.astype("float16"), constant.name))
        found.add(layers_sha256(other))
    assert len(found) == 1 + len(model.graph.initializer) == 5
    axes = [onnx.numpy_helper.from_array(torch.tensor([n]).numpy(), "shape") for n in (1, 2)]
    for shape in axes:
        other = onnx.ModelProto()
        other.CopyFrom(model)
        other.graph.initializer.append(shape)
        found.add(layers_sha256(other))
    assert len(found) == 7
