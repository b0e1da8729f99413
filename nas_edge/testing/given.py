"""What a technique is given in the checks: a small learnable problem, a trainer, a context."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_edge.contracts import Augmentation, Context, ImageData, Objective, Split, Target
from nas_edge.testing.networks import CHANNELS, CLASSES, SIDE

BATCH = 32


def images(count: int, seed: int) -> Split:
    """A learnable problem: the class is a tint, under noise."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    pictures = torch.randint(0, 160, (count, CHANNELS, SIDE, SIDE), generator=draw)
    tints = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    pictures += 20 * tints[labels][:, :, None, None]
    return Split(pictures.to(torch.uint8), labels)


def toy_data() -> ImageData:
    return ImageData(
        name="tints",
        classes=tuple("abcde"),
        train=images(320, 1),
        validation=images(200, 2),
        test=images(20, 3),
        mean=(0.5,) * CHANNELS,
        std=(0.25,) * CHANNELS,
        augmentation=Augmentation(),
        fingerprint="tints",
        preprocessing="none",
    )


class AnyDevice(Target):
    """A device that measures nothing, and computes what an 8-bit file says."""

    name = "any"

    def fingerprint(self) -> dict[str, Any]:
        return {"cpu": "any", "architecture": "aarch64", "instruction_sets": ["asimd", "asimddp"], "threads": 1}


class ToyTrainer:
    """Adam on random batches of 32, with the objectives treated as `nas_edge.Objective` says."""

    def __init__(self, data: ImageData) -> None:
        self.data = data

    def fit(self, model: nn.Module, *, samples: int, objectives: Sequence[Objective] = ()) -> nn.Module:
        model = copy.deepcopy(model).train()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            try:
                for objective in objectives:
                    objective.prepare(model)
                self._run(model, max(1, samples // BATCH), objectives)
            finally:
                for objective in objectives:
                    objective.finish(model)
        return model.eval()

    def _run(self, model: nn.Module, steps: int, objectives: Sequence[Objective]) -> None:
        own = [p for objective in objectives for p in objective.parameters()]
        optimizer = torch.optim.Adam([*(p for p in model.parameters() if p.requires_grad), *own], 3e-3)
        draw = torch.Generator().manual_seed(0)
        per_epoch = len(self.data.train) // BATCH
        for step in range(1, steps + 1):
            chosen = torch.randint(len(self.data.train), (BATCH,), generator=draw)
            inputs, labels = self.data.train.images[chosen].float() / 255, self.data.train.labels[chosen]
            outputs = model(inputs)
            loss = F.cross_entropy(outputs, labels)
            for objective in objectives:
                extra = objective.loss(inputs, labels, outputs)
                loss = loss if extra is None else loss + extra
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % per_epoch == 0 or step == steps:
                for objective in objectives:
                    objective.epoch_end(model, -(-step // per_epoch), -(-steps // per_epoch))

    @torch.no_grad()
    def accuracy(self, model: nn.Module, split: Split) -> float:
        return float((model(split.images.float() / 255).argmax(1) == split.labels).float().mean())


def toy_context(work_dir: Path, *, trained: bool = True, teacher: nn.Module | None = None) -> Context:
    data = toy_data()
    return Context(
        data=data,
        target=AnyDevice(),
        trainer=ToyTrainer(data),
        work_dir=work_dir,
        seed=0,
        samples=32,
        trained=trained,
        teacher=teacher,
    )


def inputs(count: int = 8) -> Tensor:
    """Images in 0..1 `[count, channels, side, side]`."""
    return images(count, 4).images.float() / 255
