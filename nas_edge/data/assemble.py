"""Arrays of images to an `ImageData`: checks, statistics and fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nas_edge.contracts import Augmentation, ImageData, Split
from nas_edge.errors import DataError

LEAST_STD = 1e-3
COLOURS = 3
SHIFT = 1 / 8  # of the side
MODEL_INPUT = (
    "The model takes float32 [batch, {channels}, {size}, {size}], each pixel value divided by 255; "
    "normalisation is inside the model."
)

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


def usual_augmentation(channels: int) -> Augmentation:
    """That of photos. Grey images are not mirrored: many are signs, which that would change."""
    return Augmentation(SHIFT, mirror=channels == COLOURS)


def make_split(images: Images, labels: Labels) -> Split:
    """A split from uint8 [count, C, S, S] and int64 [count]; contiguous arrays are shared, not copied."""
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(np.ascontiguousarray(labels)))


def assemble(
    name: str,
    classes: Sequence[str],
    splits: tuple[Split, Split, Split],
    *,
    augmentation: Augmentation,
    preprocessing: str,
    skipped: Sequence[str] = (),
) -> ImageData:
    """An `ImageData` from train, validation and test, with mean, std, fingerprint and the words on preprocessing.

    Raises `DataError` where a split is empty, holds a label that is no class, or a class has no training image.
    """
    train, validation, test = splits
    for title, split in zip(("train", "validation", "test"), splits, strict=True):
        _check(name, title, split, len(classes))
    missing = torch.bincount(train.labels, minlength=len(classes)) == 0
    if bool(missing.any()):
        raise DataError(f"{name}: class {classes[int(missing.int().argmax())]!r} has no training image")
    mean, std = channel_statistics(train.images.numpy())
    _, channels, size, _ = train.images.shape
    return ImageData(
        name=name,
        classes=tuple(classes),
        train=train,
        validation=validation,
        test=test,
        mean=mean,
        std=std,
        augmentation=augmentation,
        fingerprint=_fingerprint(classes, splits),
        preprocessing=f"{preprocessing} {MODEL_INPUT.format(channels=channels, size=size)}",
        skipped=tuple(skipped),
    )


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (at least 1e-3) of each channel in 0..1, exactly, from counts of the 256 levels."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for start in range(0, len(images), 512):  # bincount widens to 8 bytes a pixel: a part at a time
        for channel in range(images.shape[1]):
            counts[channel] += np.bincount(images[start : start + 512, channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
    return tuple(float(m) for m in mean), tuple(float(s) for s in np.maximum(std, LEAST_STD))


def _check(name: str, title: str, split: Split, classes: int) -> None:
    if not len(split):
        raise DataError(f"{name}: the {title} split holds no image; add some")
    low, high = int(split.labels.min()), int(split.labels.max())
    if len(split.images) != len(split) or low < 0 or high >= classes:
        raise DataError(
            f"{name}: the {title} split is damaged: {len(split.images)} images, {len(split)} labels in {low}..{high} "
            f"for {classes} classes"
        )


def _fingerprint(classes: Sequence[str], splits: tuple[Split, Split, Split]) -> str:
    digest = hashlib.sha256(json.dumps([list(classes), *(list(s.images.shape) for s in splits)]).encode())
    for split in splits:
        digest.update(split.images.numpy().data)
        digest.update(split.labels.numpy().astype("<i8").data)
    return digest.hexdigest()[:16]
