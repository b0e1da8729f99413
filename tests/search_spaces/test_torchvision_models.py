"""torchvision's networks as a space of fixed architectures."""

from __future__ import annotations

import optuna
import pytest
import torch
from torch import nn

from nas_edge import InvalidCandidate, Scope
from nas_edge.export import export_onnx, logits, session
from nas_edge.plugins import load_plugins
from nas_edge_spaces.torchvision_models import MODELS, TorchvisionSpace

SPACE = TorchvisionSpace()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_builds_and_takes_the_channels_of_the_data(name: str, channels: int) -> None:
    torch.manual_seed(0)
    model = SPACE.build({"model": name}, in_channels=channels, num_classes=7, resolution=32).eval()
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == channels
    with torch.inference_mode():
        found = model(torch.randn(2, channels, 32, 32))
    assert found.shape == (2, 7)
    assert found.isfinite().all()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1"])
def test_models_run_in_onnx_runtime(name: str) -> None:
    torch.manual_seed(0)
    model = SPACE.build({"model": name}, in_channels=1, num_classes=7, resolution=32).eval()
    runner = session(export_onnx(model, channels=1, resolution=32), threads=1)
    x = torch.randn(3, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(logits(runner, x.numpy())), model(x), rtol=1e-4, atol=1e-4)


def test_sampling_draws_one_model_and_runs_at_the_native_size() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(60)]
    drawn = [SPACE.suggest(Scope(trial, "torchvision")) for trial in trials]
    assert {params["model"] for params in drawn} == set(MODELS)
    assert trials[0].params == {"torchvision.model": drawn[0]["model"]}
    assert SPACE.input_size(drawn[0], 64) == 64
    assert "torchvision" in load_plugins().search_spaces


def test_small_images_and_unknown_models_are_refused() -> None:
    with pytest.raises(InvalidCandidate, match="resolution is 28 pixels; resnet18 needs at least 32"):
        SPACE.build({"model": "resnet18"}, in_channels=1, num_classes=2, resolution=28)
    with pytest.raises(InvalidCandidate, match=r"'resnet19'.*one of mobilenet_v2"):
        SPACE.build({"model": "resnet19"}, in_channels=1, num_classes=2, resolution=64)
