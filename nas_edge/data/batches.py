"""A split to batches: shuffled and augmented for training, in order for evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from nas_edge.contracts import Augmentation, Split

Batch = tuple[Tensor, Tensor]
# Passes over a split with its images as they are. Small networks do not learn so few by heart: shifted and mirrored, a
# MobileNet of Fashion-MNIST comes out 1.7 points worse after 4 passes, and 1.4 after 9.
PLAIN_PASSES = 8


class Batches:
    """Training batches in a random order: `(inputs, labels)`, augmented from the ninth pass over the split on.

    `inputs` are float32 [B, C, S, S] in 0..1 and `labels` int64 [B], both on `device`. Each epoch is a new
    permutation; its incomplete last batch is left out, since BatchNorm learns nothing from a batch of one. A split
    smaller than `batch_size` is one batch. All randomness comes from `generator`, which must be on the CPU.

    `samples` bounds an iteration: it ends with the batch that reaches that many images. Without it, it never ends.

    Raises `ValueError` for an empty split, and for a `batch_size` or `samples` below 1.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        augmentation: Augmentation,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        samples: int | None = None,
    ) -> None:
        if not len(split):
            raise ValueError("an empty split gives no batches")
        if batch_size < 1 or (samples is not None and samples < 1):
            raise ValueError(f"batch_size ({batch_size}) and samples ({samples}) must be at least 1")
        self.split = split
        self.batch_size = min(batch_size, len(split))
        self.augmentation = augmentation
        self.generator = generator
        self.device = torch.device(device)
        self.samples = samples

    @property
    def per_epoch(self) -> int:
        """Batches an epoch."""
        return len(self.split) // self.batch_size

    def __len__(self) -> int:
        """Batches of an iteration that `samples` bounds. Raises `TypeError` where nothing does."""
        if self.samples is None:
            raise TypeError("batches without a bound on samples have no length")
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        endless = (self._batch(index, number) for number, index in self._positions())
        return endless if self.samples is None else itertools.islice(endless, len(self))

    def _positions(self) -> Iterator[tuple[int, Tensor]]:
        """The number of the pass, from 0, and the images of each batch."""
        for number in itertools.count():
            order = torch.randperm(len(self.split), generator=self.generator)
            for batch in range(self.per_epoch):
                yield number, order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def _batch(self, index: Tensor, number: int) -> Batch:
        images = self.split.images[index]
        if number >= PLAIN_PASSES:
            images = augment(images, self.augmentation, self.generator)
        return to_float(images.to(self.device)), self.split.labels[index].to(self.device)


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Shift each image by whole pixels, alike in all channels, repeating its edge, and mirror about half of them.

    `images` [B, C, S, S] of any type; a new tensor, or the same one where nothing is to be done. The shift in each
    direction is uniform over -m..m, with m the rounded share `augmentation.shift` of the side.
    """
    count, _, size, _ = images.shape
    most = round(augmentation.shift * size)
    if not most and not augmentation.mirror:
        return images
    places = torch.arange(size)
    shifts = torch.randint(-most, most + 1, (2, count, 1), generator=generator)
    rows, columns = (places + shifts).clamp_(0, size - 1)
    if augmentation.mirror:
        flipped = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(flipped, size - 1 - columns, columns)
    flat = (rows[:, :, None] * size + columns[:, None, :]).view(count, 1, size * size)
    return images.flatten(2).gather(2, flat.expand(-1, images.shape[1], -1)).view_as(images)


def evaluation_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """All of a split in its order: float32 [B, C, S, S] in 0..1 and int64 [B], on the CPU; the last may be smaller."""
    for start in range(0, len(split), batch_size):
        end = start + batch_size
        yield to_float(split.images[start:end]), split.labels[start:end]


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 to float32 0..1."""
    return images.to(torch.float32).div_(255)
