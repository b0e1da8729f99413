"""The loss of softened outputs, and learning them from a frozen teacher."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from nas_edge import Objective

from .losses import as_float


def frozen_copy(teacher: nn.Module) -> nn.Module:
    """A copy in evaluation mode that takes no gradient: the one in the context is shared, and stays as it is."""
    return copy.deepcopy(teacher).eval().requires_grad_(False)


@torch.no_grad()
def output_count(model: nn.Module, image: torch.Tensor) -> int:
    """The number of logits a model gives for an image, uint8 `[1, channels, height, width]`."""
    return int(model(image.to(device_of(model)).float() / 255).shape[-1])


def device_of(model: nn.Module) -> torch.device:
    """Where a model computes."""
    return next(model.parameters(), torch.empty(0)).device


def softened_divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch, of logits `[batch, classes]`."""
    soft_student = F.log_softmax(as_float(student) / temperature, dim=1)
    soft_teacher = F.log_softmax(as_float(teacher) / temperature, dim=1)
    divergence = F.kl_div(soft_student, soft_teacher, reduction="batchmean", log_target=True)
    return temperature**2 * divergence


class SoftenedOutputs(Objective):
    """`weight` times the softened divergence from a frozen teacher, which sees the same augmented images."""

    def __init__(self, teacher: nn.Module, temperature: float, weight: float) -> None:
        self.teacher = teacher
        self.temperature = temperature
        self.weight = weight

    def prepare(self, model: nn.Module) -> None:
        """Bring the teacher to the student's device."""
        self.teacher.to(device_of(model))

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            taught = self.teacher(inputs)
        return self.weight * softened_divergence(outputs, taught, self.temperature)
