"""Every corner of the mobilenet space builds, trains, and computes the same in ONNX Runtime."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas_edge.export import export_onnx, logits, session

from .networks import CLASSES, build, images, params

RESOLUTIONS = (8, 28, 32, 96, 224)


def _corners() -> list[Any]:
    """Smallest and largest everywhere; then each choice, over the resolutions and channel counts in turn."""
    sizes, channels = cycle(RESOLUTIONS), cycle((3, 1))
    cases = [(f"all-{name}", params(pick), r) for name, pick in (("min", 0), ("max", -1)) for r in RESOLUTIONS]
    for attention in ("none", "se", "spatial", "self"):
        for block in ("separable", "inverted"):
            cases.append((f"{attention}-{block}", params(0, attention=attention, block=block, depth=2), next(sizes)))
    for activation in ("relu", "relu6", "hard_swish"):
        cases.append((activation, params(0, activation=activation, block="inverted"), next(sizes)))
    for kernel in (3, 5, 7):
        cases.append((f"kernel{kernel}", params(0, kernel=kernel, stride=2), next(sizes)))
    return [pytest.param(p, next(channels), r, id=f"{name}-{r}px") for name, p, r in cases]


@pytest.mark.parametrize(("of", "channels", "resolution"), _corners())
def test_builds_trains_and_runs_in_onnx_runtime(of: dict[str, Any], channels: int, resolution: int) -> None:
    model = build(of, channels, resolution).train()
    inputs = images(32 if resolution == 8 else 4, channels, resolution)
    _train_one_step(model, inputs)
    _settle_batch_norms(model, inputs)
    model.eval()
    runner = session(export_onnx(model, channels=channels, resolution=resolution), threads=1)
    for batch in (1, 3):
        with torch.inference_mode():
            expected = model(inputs[:batch])
        assert expected.shape == (batch, CLASSES)
        found = torch.from_numpy(logits(runner, inputs[:batch].numpy()))
        assert found.shape == expected.shape
        assert (found - expected).abs().max().item() <= 1e-4


def _train_one_step(model: nn.Module, inputs: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = F.cross_entropy(model(inputs), torch.arange(len(inputs)) % CLASSES)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # In theory the shift of a linear bottleneck has gradient 0: the batch norm after the next layer takes it out.
        if parameter.ndim > 1:
            assert parameter.grad.abs().max() > 1e-7, name
    optimizer.step()


def _settle_batch_norms(model: nn.Module, inputs: torch.Tensor) -> None:
    """Give the batch norms the statistics of these images, so that logits have the size they have after training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(inputs)
