"""Batches for training and evaluation."""

from __future__ import annotations

import itertools

import pytest
import torch

from nas_edge import Augmentation, Split
from nas_edge.data.batches import PLAIN_PASSES, Batches, augment, evaluation_batches, to_float

PLAIN = Augmentation()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int, channels: int = 1, size: int = 2) -> Split:
    """Image i is filled with the value i, and i is its label."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(count, channels, size, size).clone()
    return Split(images, labels)


def random_images(count: int, channels: int, size: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator(7))


def test_an_epoch_shows_each_image_once_with_its_label() -> None:
    stream = Batches(numbered(12, 3), batch_size=4, augmentation=PLAIN, generator=generator(), samples=12)
    seen = []
    for inputs, labels in stream:
        assert inputs.dtype == torch.float32
        assert inputs.shape == (4, 3, 2, 2)
        torch.testing.assert_close(inputs[:, 0, 0, 0] * 255, labels.float())
        seen += labels.tolist()
    assert sorted(seen) == list(range(12))
    assert seen != list(range(12))


def test_each_epoch_is_another_order_and_the_incomplete_batch_is_left_out() -> None:
    stream = Batches(numbered(10), batch_size=4, augmentation=PLAIN, generator=generator())
    labels = [batch[1].tolist() for batch in itertools.islice(stream, 4)]
    assert stream.per_epoch == 2
    assert {len(part) for part in labels} == {4}
    first, second = labels[0] + labels[1], labels[2] + labels[3]
    assert len(set(first)) == len(set(second)) == 8
    assert first != second


def test_a_split_smaller_than_a_batch_is_one_batch() -> None:
    stream = Batches(numbered(3), batch_size=64, augmentation=PLAIN, generator=generator(), samples=7)
    assert [len(labels) for _, labels in stream] == [3, 3, 3]


@pytest.mark.parametrize(("samples", "count"), [(1, 1), (4, 1), (5, 2), (16, 4), (17, 5)])
def test_samples_bound_the_iteration(samples: int, count: int) -> None:
    stream = Batches(numbered(10), batch_size=4, augmentation=PLAIN, generator=generator(), samples=samples)
    assert len(stream) == count
    assert len(list(stream)) == count


def test_an_endless_stream_has_no_length() -> None:
    with pytest.raises(TypeError, match="no length"):
        len(Batches(numbered(10), batch_size=4, augmentation=PLAIN, generator=generator()))


def test_the_generator_decides_everything() -> None:
    split = Split(random_images(20, 1, 8), torch.arange(20))
    torch.manual_seed(1)
    before = torch.get_rng_state()

    def inputs(seed: int) -> torch.Tensor:
        stream = Batches(split, batch_size=8, augmentation=Augmentation(1 / 8, True), generator=generator(seed))
        return torch.cat([batch[0] for batch in itertools.islice(stream, 2 * PLAIN_PASSES + 3)])

    assert torch.equal(inputs(0), inputs(0))
    assert not torch.equal(inputs(0), inputs(1))
    assert torch.equal(before, torch.get_rng_state())


def test_images_are_as_they_are_until_they_were_seen_often() -> None:
    split = Split(random_images(16, 1, 8), torch.arange(16))
    stream = Batches(split, batch_size=16, augmentation=Augmentation(1 / 8, True), generator=generator())
    plain = [
        torch.equal(inputs, to_float(split.images[labels]))
        for inputs, labels in itertools.islice(stream, PLAIN_PASSES + 3)
    ]
    assert plain == [True] * PLAIN_PASSES + [False] * 3


@pytest.mark.parametrize(("count", "batch_size", "samples"), [(0, 4, None), (4, 0, None), (4, 4, 0)])
def test_refuses_what_makes_no_batch(count: int, batch_size: int, samples: int | None) -> None:
    with pytest.raises(ValueError, match=r"empty split|at least 1"):
        Batches(numbered(count), batch_size=batch_size, augmentation=PLAIN, generator=generator(), samples=samples)


def shifted(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """The image moved, its edge repeated: pixel by pixel, by hand."""
    out = torch.empty_like(image)
    size = image.shape[-1]
    for row in range(size):
        for column in range(size):
            from_row, from_column = min(max(row - down, 0), size - 1), min(max(column - right, 0), size - 1)
            out[:, row, column] = image[:, from_row, from_column]
    return out


@pytest.mark.parametrize("mirror", [False, True])
def test_augmentation_gives_shifts_and_mirrors_and_all_of_them(mirror: bool) -> None:
    image = random_images(1, 3, 8)[0]
    wanted = {}
    for down, right, flip in itertools.product((-1, 0, 1), (-1, 0, 1), (False, True) if mirror else (False,)):
        moved = shifted(image, down, right)
        wanted[moved.flip(-1).numpy().tobytes() if flip else moved.numpy().tobytes()] = 0
    for out in augment(image.expand(600, -1, -1, -1), Augmentation(1 / 8, mirror), generator()):
        wanted[out.numpy().tobytes()] += 1  # a KeyError is an image that is no shift or mirror image
    assert len(wanted) == (18 if mirror else 9)
    assert min(wanted.values()) > 0


def test_mirror_alone_flips_about_half() -> None:
    images = random_images(400, 2, 5)
    out = augment(images, Augmentation(mirror=True), generator())
    flipped = (out == images.flip(-1)).flatten(1).all(1)
    kept = (out == images).flatten(1).all(1)
    assert bool((flipped | kept).all())
    assert 160 < int(flipped.sum()) < 240  # 4 standard deviations of a fair coin


def test_no_augmentation_changes_nothing() -> None:
    images = random_images(4, 3, 6)
    assert augment(images, PLAIN, generator()) is images
    assert augment(images, Augmentation(shift=0.05), generator()) is images  # less than half a pixel


def test_the_cached_images_are_not_changed() -> None:
    split = Split(random_images(16, 1, 8), torch.arange(16))
    before = split.images.clone()
    for inputs, _ in Batches(
        split, batch_size=8, augmentation=Augmentation(1 / 8, True), generator=generator(), samples=16 * 10
    ):
        inputs.zero_()
    assert torch.equal(split.images, before)


def test_evaluation_is_in_order_and_complete() -> None:
    parts = list(evaluation_batches(numbered(10, 3), 4))
    assert [len(labels) for _, labels in parts] == [4, 4, 2]
    assert torch.cat([labels for _, labels in parts]).tolist() == list(range(10))
    inputs = torch.cat([images for images, _ in parts])
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs[:, 2, 1, 1], torch.arange(10) / 255)


def test_to_float_covers_0_to_1() -> None:
    assert to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0.0, 0.2, 1.0])
