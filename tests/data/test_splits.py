"""Which image goes where: disjoint, stratified, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from nas_edge.data.splits import SplitIndices, allocate, bounded, split_pool
from nas_edge.errors import DataError, UserError

CLASSES = ("a", "b", "c")


def pool(*sizes: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(0).permutation(labels).astype(np.int64)


def everything(parts: SplitIndices) -> list[int]:
    return sorted([*parts.train, *parts.validation, *parts.test])


@pytest.mark.parametrize("sizes", [(100, 200, 300), (5, 5, 5), (5, 1000, 17), (6, 7, 8)])
def test_each_image_is_in_one_split_and_each_class_in_each(sizes: tuple[int, ...]) -> None:
    labels = pool(*sizes)
    parts = split_pool(labels, CLASSES, seed=3)
    assert everything(parts) == list(range(len(labels)))
    for positions, least in ((parts.train, 1), (parts.validation, 2), (parts.test, 2)):
        assert np.bincount(labels[positions], minlength=3).min() >= least


def test_shares_follow_the_classes() -> None:
    labels = pool(100, 200, 300)
    parts = split_pool(labels, CLASSES, seed=0)
    assert np.bincount(labels[parts.test]).tolist() == [20, 40, 60]
    assert np.bincount(labels[parts.validation]).tolist() == [20, 40, 60]
    assert np.bincount(labels[parts.train]).tolist() == [60, 120, 180]


def test_beside_a_ready_test_split_validation_takes_a_tenth() -> None:
    labels = pool(100, 200, 300)
    parts = split_pool(labels, CLASSES, seed=0, draw_test=False)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (540, 60, 0)
    assert np.bincount(labels[parts.validation]).tolist() == [10, 20, 30]


def test_with_ready_validation_and_test_all_is_for_training() -> None:
    parts = split_pool(pool(1, 2, 3), CLASSES, seed=0, draw_test=False, draw_validation=False)
    assert parts.train.tolist() == list(range(6))


def test_large_pools_have_bounded_validation_and_test() -> None:
    labels = pool(40_000, 40_000, 40_000)
    parts = split_pool(labels, CLASSES, seed=0)
    assert (len(parts.validation), len(parts.test)) == (5_000, 10_000)


def test_the_seed_decides() -> None:
    labels = pool(50, 50, 50)
    first, again, other = (split_pool(labels, CLASSES, seed=seed) for seed in (1, 1, 2))
    assert first.test.tolist() == again.test.tolist()
    assert first.validation.tolist() == again.validation.tolist()
    assert first.test.tolist() != other.test.tolist()
    assert first.validation.tolist() != other.validation.tolist()


def test_train_images_bounds_training_alone() -> None:
    labels = pool(100, 200, 300)
    whole = split_pool(labels, CLASSES, seed=0)
    part = split_pool(labels, CLASSES, seed=0, train_images=60)
    assert np.bincount(labels[part.train]).tolist() == [10, 20, 30]
    assert set(part.train) < set(whole.train)
    assert part.validation.tolist() == whole.validation.tolist()
    assert part.test.tolist() == whole.test.tolist()
    assert len(split_pool(labels, CLASSES, seed=0, train_images=10**6).train) == len(whole.train)


def test_train_images_keeps_a_rare_class() -> None:
    labels = pool(6, 1000, 1000)
    part = split_pool(labels, CLASSES, seed=0, train_images=3)
    assert np.bincount(labels[part.train]).tolist() == [1, 1, 1]
    with pytest.raises(UserError, match=r"number of classes \(3\), not 2"):
        split_pool(labels, CLASSES, seed=0, train_images=2)


def test_a_class_too_small_is_named() -> None:
    with pytest.raises(DataError, match=r"class 'b' has 4 images.*at least 5"):
        split_pool(pool(10, 4, 10), CLASSES, seed=0)
    with pytest.raises(DataError, match=r"class 'c' has 1 image,.*at least 3"):
        split_pool(pool(10, 4, 1), CLASSES, seed=0, draw_test=False)


def test_a_ready_split_is_bounded_evenly() -> None:
    labels = pool(100, 200, 300)
    kept = bounded(labels, 60, seed=0)
    assert np.bincount(labels[kept]).tolist() == [10, 20, 30]
    assert bounded(labels, 1000, seed=0).tolist() == list(range(600))


def test_allocation_adds_up_within_the_sizes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(2, 50, rng.integers(1, 8))
        total = int(rng.integers(2 * len(sizes), sizes.sum() + 1))
        counts = allocate(sizes, total, 2)
        assert counts.sum() == total
        assert (counts >= 2).all()
        assert (counts <= sizes).all()
        # The method of largest remainders is within one image of the exact share where no bound acts.
        exact = sizes * total / sizes.sum()
        free = (counts > 2) & (counts < sizes)
        if free.all():
            assert (np.abs(counts - exact) < 1).all()
