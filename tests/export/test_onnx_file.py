"""Writing ONNX files and judging them in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from nas_edge import ExportError, ModelError, Split
from nas_edge.data.preprocess import Preprocess
from nas_edge.export import (
    accuracy,
    check_parity,
    describe,
    export_onnx,
    logits,
    save_model,
    session,
    sha256_of,
)


def network(resolution: int = 8) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Hardswish(), nn.Flatten(), nn.LazyLinear(3)
        )
        model = nn.Sequential(Preprocess([0.4], [0.2], 8, resolution), layers)
        model(torch.zeros(2, 1, 8, 8))
    return model.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("resolution", [6, 8, 12])
def test_the_file_computes_what_the_model_does(resolution: int, images: torch.Tensor) -> None:
    model = network(resolution)
    graph = export_onnx(model, channels=1, resolution=8)
    onnx.checker.check_model(graph, full_check=True)
    found = logits(session(graph), images.numpy())
    np.testing.assert_allclose(found, model(images).detach().numpy(), atol=1e-4)
    assert 0 <= check_parity(model, graph, images) < 1e-5


def test_the_interface_of_the_file() -> None:
    graph = export_onnx(network(), channels=1, resolution=8).graph
    (given,), (made,) = graph.input, graph.output
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (given, made)]
    assert (given.name, made.name) == ("input", "logits")
    assert shapes == [["batch", 1, 8, 8], ["batch", 3]]
    for batch in (1, 7):
        runner = session(export_onnx(network(), channels=1, resolution=8))
        assert logits(runner, np.zeros((batch, 1, 8, 8), np.float32)).shape == (batch, 3)


def test_a_tampered_graph_is_refused(images: torch.Tensor) -> None:
    """Parity is checked on the logits, so a change in any weight shows."""
    model = network()
    graph = export_onnx(model, channels=1, resolution=8)
    weight = next(w for w in graph.graph.initializer if len(w.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.01, weight.name))
    with pytest.raises(ExportError, match=r"logits differ by .* from the torch model's"):
        check_parity(model, graph, images)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.nan, weight.name))
    with pytest.raises(ExportError, match="differ by nan"):
        check_parity(model, graph, images)


def test_parity_is_relative_to_large_logits(images: torch.Tensor) -> None:
    """A hundredth of a percent of logits of some thousands is rounding, not another network."""
    model = network()
    with torch.no_grad():
        model.get_parameter("1.4.weight").mul_(1e4)
    graph = export_onnx(model, channels=1, resolution=8)
    weight = next(w for w in graph.graph.initializer if len(w.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1 + 5e-5), weight.name))
    assert 1e-5 < check_parity(model, graph, images) < 1e-4


def test_exporting_leaves_the_model_and_the_random_state_alone() -> None:
    model = network().train()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.random.get_rng_state()
    export_onnx(model, channels=1, resolution=8)
    assert model.training and torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_what_does_not_export_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            values: torch.Tensor = torch.linalg.eigvalsh(x)
            return values

    with pytest.raises(ExportError, match=r"the model does not export to ONNX: .*linalg_eigvalsh"):
        export_onnx(Odd(), channels=1, resolution=8)
    assert capfd.readouterr().out == ""


def test_a_saved_file_reads_back_with_its_properties(tmp_path: Path) -> None:
    graph = export_onnx(network(), channels=1, resolution=8)
    described = describe(describe(graph, {"classes": '["a"]', "candidate": "old"}), {"candidate": "new"})
    assert not graph.metadata_props
    save_model(described, tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    properties = {p.key: p.value for p in onnx.load_model(tmp_path / "model.onnx").metadata_props}
    assert properties == {"classes": '["a"]', "candidate": "new"}
    first = sha256_of(tmp_path / "model.onnx")
    save_model(describe(export_onnx(network(), channels=1, resolution=8), properties), tmp_path / "again.onnx")
    assert sha256_of(tmp_path / "again.onnx") == first


def test_files_that_are_no_models(tmp_path: Path) -> None:
    text, truncated = tmp_path / "text.onnx", tmp_path / "truncated.onnx"
    text.write_text("no model")
    save_model(export_onnx(network(), channels=1, resolution=8), truncated)
    truncated.write_bytes(truncated.read_bytes()[:100])
    for path in (text, truncated):
        with pytest.raises(ModelError, match=f"ONNX Runtime refuses {path}"):
            session(path)
    with pytest.raises(ExportError, match="ONNX Runtime refuses the exported model"):
        session(onnx.ModelProto())


def test_accuracy_is_the_share_of_right_answers() -> None:
    """Of a network whose logits are its pixels: the class is the place of the brightest one."""
    model = nn.Sequential(Preprocess([0.5], [0.5], 2, 2), nn.Flatten())
    graph = export_onnx(model, channels=1, resolution=2)
    brightest = torch.arange(300) % 4
    images = torch.zeros(300, 4, dtype=torch.uint8)
    images[torch.arange(300), brightest] = 200
    labels = brightest.clone()
    labels[:75] = (labels[:75] + 1) % 4
    assert accuracy(graph, Split(images.view(300, 1, 2, 2), labels)) == 0.75


def test_the_tolerance_is_wider_for_integer_kernels(images: torch.Tensor) -> None:
    """1e-4 for float; with quantizers, where an activation may be rounded one step differently, 5 %."""
    model = network()
    with torch.no_grad():
        model.get_parameter("1.4.weight").mul_(1e4)
    for factor, fits in ((1.0, (True, True)), (1.001, (False, True)), (1.2, (False, False))):
        graph = export_onnx(model, channels=1, resolution=8)
        weight = next(w for w in graph.graph.initializer if len(w.dims) == 2)
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
        quantized = onnx.ModelProto()
        quantized.CopyFrom(graph)
        made = [onnx.helper.make_tensor(n, t, [], [v]) for n, t, v in (("s", 1, 1.0), ("z", 3, 0))]
        quantized.graph.initializer.extend(made)
        quantized.graph.node.append(onnx.helper.make_node("QuantizeLinear", ["input", "s", "z"], ["unused"]))
        for candidate, expected in zip((graph, quantized), fits, strict=True):
            if expected:
                assert check_parity(model, candidate, images) < (1e-4 if candidate is graph else 0.05)
            else:
                with pytest.raises(ExportError, match="differ by"):
                    check_parity(model, candidate, images)
