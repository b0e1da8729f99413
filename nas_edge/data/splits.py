"""Which image goes into which split: stratified over the classes, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_edge.errors import DataError, UserError

# Every candidate is evaluated on the whole validation split, so it is bounded.
VALIDATION_MOST = 5_000
TEST_MOST = 10_000
LEAST_PER_CLASS = 2

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class SplitIndices:
    """Positions in the pool that each split takes, ascending; the three are disjoint."""

    train: Indices
    validation: Indices
    test: Indices


def split_pool(
    labels: Indices,
    classes: Sequence[str],
    *,
    seed: int,
    train_images: int | None = None,
    draw_validation: bool = True,
    draw_test: bool = True,
) -> SplitIndices:
    """Split a pool of labelled images; what is not drawn for validation or test is for training.

    A drawn test split takes 20 % of the pool (at most 10,000), a drawn validation split 20 % beside a drawn test
    split and 10 % otherwise (at most 5,000), each at least 2 a class. `train_images` then bounds the training
    split; validation and test do not depend on it.

    Raises `DataError` naming a class that is too small, `UserError` where `train_images` is fewer than the classes.
    """
    _check_sizes(labels, classes, 1 + LEAST_PER_CLASS * (draw_validation + draw_test))
    rest = np.arange(len(labels), dtype=np.int64)
    test = validation = rest[:0]
    if draw_test:
        count = min(round(len(labels) * 0.2), TEST_MOST)
        test, rest = _draw(labels, rest, count, LEAST_PER_CLASS, np.random.default_rng([seed, 1]))
    if draw_validation:
        count = min(round(len(labels) * (0.2 if draw_test else 0.1)), VALIDATION_MOST)
        validation, rest = _draw(labels, rest, count, LEAST_PER_CLASS, np.random.default_rng([seed, 2]))
    if train_images is not None:
        if train_images < len(classes):
            raise UserError(
                f"--train-images must be at least the number of classes ({len(classes)}), not {train_images}"
            )
        rest, _ = _draw(labels, rest, train_images, 1, np.random.default_rng([seed, 3]))
    return SplitIndices(rest, validation, test)


def bounded(labels: Indices, most: int, *, seed: int) -> Indices:
    """The positions of at most `most` images, drawn stratified: for a ready split that is too large."""
    everything = np.arange(len(labels), dtype=np.int64)
    return _draw(labels, everything, most, 0, np.random.default_rng([seed, 4]))[0]


def allocate(sizes: NDArray[np.int64], total: int, least: int) -> NDArray[np.int64]:
    """Share `total` over classes in proportion to their sizes, each at least `least` and never beyond its size."""
    total = min(total, int(sizes.sum()))
    quotas = sizes * (total / max(int(sizes.sum()), 1))
    low = np.minimum(least, sizes)
    counts: NDArray[np.int64] = np.clip(np.floor(quotas).astype(np.int64), low, sizes)
    while counts.sum() < total:
        counts[np.argmax(np.where(counts < sizes, quotas - counts, -np.inf))] += 1
    while counts.sum() > total and (counts > low).any():
        counts[np.argmax(np.where(counts > low, counts - quotas, -np.inf))] -= 1
    return counts


def _draw(labels: Indices, pool: Indices, total: int, least: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """`total` positions of the pool, stratified and at least `least` a class, and the others."""
    present, members = np.unique(labels[pool], return_inverse=True)
    counts = allocate(np.bincount(members, minlength=len(present)).astype(np.int64), total, least)
    shuffled = [rng.permutation(pool[members == place]) for place in range(len(present))]
    chosen = [part[:count] for part, count in zip(shuffled, counts, strict=True)]
    others = [part[count:] for part, count in zip(shuffled, counts, strict=True)]
    return _joined(chosen), _joined(others)


def _joined(parts: list[Indices]) -> Indices:
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)


def _check_sizes(labels: Indices, classes: Sequence[str], least: int) -> None:
    for name, count in zip(classes, np.bincount(labels, minlength=len(classes)), strict=True):
        if count < least:
            raise DataError(
                f"class {name!r} has {count} image{'' if count == 1 else 's'}, too few to be split into train, "
                f"validation and test; at least {least} are needed: add images or remove the class"
            )
