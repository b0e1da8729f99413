"""Learning from inside a frozen teacher: its feature maps, its attention, its relations between samples.

Each adds `method_weight` times its own loss to the softened outputs, which are left out with `weight` 0. The teacher
runs once for both. While it trains, the student carries hooks; `finish` takes them away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nas_edge import Context

from .losses import attention_distance, feature_error, relation_error, same_size
from .softened import SoftenedOutputs, device_of
from .taps import Recorder, Tap, embedding, feature_maps, from_the_deepest

if TYPE_CHECKING:
    from . import DistillConfig


class Guided(SoftenedOutputs):
    """Softened outputs, and what is compared between pairs of taps in student and teacher, the mean over the pairs."""

    def __init__(self, teacher: nn.Module, config: DistillConfig, context: Context) -> None:
        super().__init__(teacher, config.temperature, config.weight)
        self.config = config
        self.seed = context.seed
        self.note = context.note
        self.image = context.data.train.images[:1]
        self.recorders: list[Recorder] = []

    def pairs(self, model: nn.Module) -> list[tuple[Tap, Tap]]:
        """What is compared: a tap of the student with one of the teacher."""
        raise NotImplementedError

    def compare(self, index: int, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of one pair."""
        raise NotImplementedError

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        self.finish(model)
        pairs = self.pairs(model)
        self.recorders = [Recorder(model, [s for s, _ in pairs]), Recorder(self.teacher, [t for _, t in pairs])]
        matches = ", ".join(f"{s} learns from {t}" for s, t in pairs)
        self.note(f"distill, {self.config.method}: {matches}")

    def loss(self, inputs: Tensor, labels: Tensor, outputs: Tensor) -> Tensor:
        softened = super().loss(inputs, labels, outputs)
        student, teacher = (recorder.take() for recorder in self.recorders)
        with torch.autocast(inputs.device.type, enabled=False):
            terms = [self.compare(i, s, t.detach()) for i, (s, t) in enumerate(zip(student, teacher, strict=True))]
        return softened + self.config.method_weight * torch.stack(terms).mean()

    def finish(self, model: nn.Module) -> None:
        for recorder in self.recorders:
            recorder.remove()
        self.recorders = []


class Attention(Guided):
    """Attention transfer: where the student looks, at up to `depths` resolutions (Zagoruyko & Komodakis 2017)."""

    def pairs(self, model: nn.Module) -> list[tuple[Tap, Tap]]:
        student, teacher = (feature_maps(m, self.image) for m in (model, self.teacher))
        return from_the_deepest(student, teacher, self.config.depths)

    def compare(self, index: int, student: Tensor, teacher: Tensor) -> Tensor:
        return attention_distance(student, teacher)


class Features(Attention):
    """FitNets: the teacher's maps, from the student's through a 1x1 convolution each (Romero et al. 2015).

    The projections take the student's channels to the teacher's and are trained along; none of them stays.
    """

    projections: Sequence[nn.Conv2d] = ()

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            projections = [nn.Conv2d(s.shape[0], t.shape[0], 1) for s, t in self.pairs(model)]
        self.projections = [p.to(device_of(model)) for p in projections]

    def parameters(self) -> Iterable[nn.Parameter]:
        return [parameter for projection in self.projections for parameter in projection.parameters()]

    def compare(self, index: int, student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = same_size(student, teacher)
        return feature_error(self.projections[index](student), teacher)


class Relations(Guided):
    """How a batch lies in the space of the penultimate embeddings (Park et al. 2019; Tung & Mori 2019)."""

    def pairs(self, model: nn.Module) -> list[tuple[Tap, Tap]]:
        return [(embedding(model, self.image), embedding(self.teacher, self.image))]

    def compare(self, index: int, student: Tensor, teacher: Tensor) -> Tensor:
        return relation_error(_vectors(student), _vectors(teacher), self.config.relation)


def _vectors(embeddings: Tensor) -> Tensor:
    """`[B, features]`, of maps the mean over their positions."""
    return embeddings.flatten(2).mean(2) if embeddings.ndim == 4 else embeddings.flatten(1)


GUIDES: dict[str, Callable[[nn.Module, DistillConfig, Context], Guided]] = {
    "features": Features,
    "attention": Attention,
    "relations": Relations,
}
