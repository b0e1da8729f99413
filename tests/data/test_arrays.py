"""Images in arrays: in a file, and given from Python."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas_edge import Augmentation, DataError
from nas_edge.data.arrays import load_arrays, pack

from .image_folders import load

COUNT, SIDE = 60, 6
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (COUNT, 1, SIDE, SIDE), dtype=np.uint8)
LABELS = np.arange(COUNT) % 3


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "data.npz"
    np.savez_compressed(path, **arrays)
    return path


def test_the_splits_of_a_file_hold_each_image_once(tmp_path: Path) -> None:
    path = saved(tmp_path, images=IMAGES[:, 0], labels=LABELS, classes=["a", "b", "c"])
    data = load(f"arrays:{path}")
    assert (data.channels, data.resolution, data.classes) == (1, SIDE, ("a", "b", "c"))
    assert [len(s) for s in (data.train, data.validation, data.test)] == [36, 12, 12]
    held = {
        (image.tobytes(), int(label))
        for split in (data.train, data.validation, data.test)
        for image, label in zip(split.images.numpy(), split.labels, strict=True)
    }
    assert held == {(image.tobytes(), label) for image, label in zip(IMAGES, LABELS.tolist(), strict=True)}
    assert data.augmentation == Augmentation(shift=1 / 8, mirror=False)
    assert len(load(f"arrays:{path}", train_images=6).train) == 6


def test_ready_splits_and_what_is_said_of_augmentation(tmp_path: Path) -> None:
    colours = np.repeat(IMAGES, 3, axis=1)
    parts = {"images": colours, "labels": LABELS, "test_images": colours[:9].transpose(0, 2, 3, 1)}
    path = saved(tmp_path, **parts, test_labels=LABELS[:9].astype(np.uint8), shift=0.25)
    data = load_arrays(path, seed=0)
    assert np.array_equal(data.test.images.numpy(), colours[:9]) and data.test.labels.tolist() == LABELS[:9].tolist()
    assert len(data.train) + len(data.validation) == COUNT and data.channels == 3
    assert data.augmentation == Augmentation(shift=0.25, mirror=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": IMAGES.astype(np.float32)}, r"'images' is float32 \[60, 1, 6, 6\]; it must be uint8"),
        ({"images": IMAGES[:, :, :4]}, r"uint8 \[60, 1, 4, 6\]; it must be .* square images"),
        ({"labels": LABELS[:5]}, r"'labels' is int64 \[5\] for 60 images"),
        ({"labels": LABELS - 1}, r"labels are in -1\.\.1 for 2 classes; number the classes from 0"),
        ({"classes": ["one"]}, r"labels are in 0\.\.2 for 1 classes"),
        ({"classes": "one"}, r"'classes' is <U3 \[\]; it must be a name for each class"),
        ({"labels": LABELS + 2**62}, r"labels are in 4611686018427387904\.\..* for 60 classes"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "has no images"),
        ({"test_images": IMAGES}, "an array 'test_images' but no 'test_labels'"),
        ({"test_images": IMAGES[:, :, :4, :4], "test_labels": LABELS}, "1x4x4 and 1x6x6; resize them"),
        ({"shift": 2.0}, "'shift' is 2.0"),
        ({"labels": np.array([{}] * COUNT)}, "no .npz file of plain arrays .*pickle"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = saved(tmp_path, **{"images": IMAGES, "labels": LABELS, **changes})
    with pytest.raises(DataError, match=reason):
        load_arrays(path, seed=0)


def test_what_is_no_such_file(tmp_path: Path) -> None:
    (path := tmp_path / "text.npz").write_text("images")
    with pytest.raises(DataError, match=r"text.npz' is no .npz file of plain arrays \(File is not a zip file\)"):
        load_arrays(path, seed=0)
    with pytest.raises(DataError, match="has no array 'images'"):
        load_arrays(saved(tmp_path, pixels=IMAGES), seed=0)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", "pixels")
    with pytest.raises(DataError, match="'images' is no array"):
        load_arrays(path, seed=0)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\0\x08\0{'a': (\n")
    with pytest.raises(DataError, match="file of plain arrays"):
        load_arrays(path, seed=0)


def test_a_file_that_claims_more_than_there_is_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_edge.data.arrays.available_bytes", lambda: 1000)
    with pytest.raises(DataError, match=r"more than the .* GB that data may take here; keep fewer images"):
        load_arrays(saved(tmp_path, images=IMAGES, labels=LABELS), seed=0)


class Items:
    """A data set of torch: a length and items."""

    classes = ("zero", "one", "two")

    def __init__(self, make: Any) -> None:
        self.make = make

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        return self.make(IMAGES[number]), LABELS[number]


@pytest.mark.parametrize(
    "make",
    [
        lambda image: Image.fromarray(image[0]),
        lambda image: torch.from_numpy(image),
        lambda image: torch.from_numpy(image).float() / 255,
        lambda image: image[0],
        lambda image: image.transpose(1, 2, 0),
    ],
    ids=["PIL", "bytes", "floats", "grey", "channels last"],
)
def test_a_dataset_of_python_is_stored_pixel_by_pixel(tmp_path: Path, make: Any) -> None:
    path = pack(Items(make), tmp_path)
    with np.load(path) as stored:
        assert np.array_equal(stored["images"], IMAGES) and stored["labels"].tolist() == LABELS.tolist()
        assert stored["classes"].tolist() == ["zero", "one", "two"]
    assert pack(Items(make), tmp_path) == path and [*tmp_path.iterdir()] == [path]


def test_arrays_and_splits_of_python(tmp_path: Path) -> None:
    one = pack((torch.from_numpy(IMAGES) / 255.0, torch.from_numpy(LABELS)), tmp_path)
    assert one == pack((IMAGES, LABELS), tmp_path)
    whole = load("digits")
    again = load(f"arrays:{pack(whole, tmp_path)}")
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(again, split).images, getattr(whole, split).images)
    assert (again.fingerprint, again.augmentation) == (whole.fingerprint, whole.augmentation)
    ready = pack({"train": (IMAGES, LABELS), "test": Items(lambda image: image)}, tmp_path)
    assert len(load_arrays(ready, seed=0).test) == COUNT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (3, "train: int is no data set; give one with __len__ and __getitem__"),
        ({"test": (IMAGES, LABELS)}, "data has the keys 'test'; give 'train'"),
        (Items(lambda image: torch.from_numpy(image) / 127.0 - 1), r"item 0 has floats in .*before any Normalize"),
        (Items(lambda image: image[:, : 4 + image[0, 0, 0] % 2, :4]), "must be uint8"),
        (Items(lambda image: image[:, : 3 + image[0, 0, 0] % 2, : 3 + image[0, 0, 0] % 2]), "the first 1x"),
        ([1, 2], "item 0 is no pair of an image and a whole number: "),
        ([], "train: the data set is empty"),
    ],
    ids=["number", "no train", "normalised", "not square", "sizes", "no pairs", "empty"],
)
def test_what_is_no_data(tmp_path: Path, data: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        pack(data, tmp_path)
    assert not [*tmp_path.iterdir()]
