"""Naming a data set, and the ones that are built in or read through torchvision."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from nas_edge import DataError, ImageData, Split, UserError
from nas_edge.data.vision import import_torchvision

from .image_folders import load


def rows(split: Split) -> set[bytes]:
    return {image.tobytes() for image in split.images.numpy()}


def class_counts(split: Split) -> list[int]:
    return torch.bincount(split.labels, minlength=10).tolist()


def check_statistics(data: ImageData) -> None:
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-9)
    assert data.std == pytest.approx(pixels.std((0, 2, 3), unbiased=False).tolist(), abs=1e-9)


def test_digits_are_all_there_once() -> None:
    data = load("digits")
    assert (data.channels, data.resolution, data.classes) == (1, 8, tuple("0123456789"))
    assert (len(data.train), len(data.validation), len(data.test)) == (1079, 359, 359)
    levels, labels = load_digits(return_X_y=True)
    pixels = np.rint(levels * (255 / 16)).astype(np.uint8)
    wanted = {(row.tobytes(), int(label)) for row, label in zip(pixels, labels, strict=True)}
    found = set()
    for split in (data.train, data.validation, data.test):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        found |= {(i.tobytes(), int(y)) for i, y in zip(split.images.numpy(), split.labels, strict=True)}
    assert found == wanted
    assert not rows(data.train) & rows(data.test)
    assert int(data.train.images.max()) == 255
    assert max(class_counts(data.test)) - min(class_counts(data.test)) <= 2
    check_statistics(data)
    assert not data.augmentation.mirror
    assert "255/16" in data.preprocessing


def test_digits_by_seed_and_bound() -> None:
    first, again, other, part = load("digits"), load("digits"), load("digits", seed=1), load("digits", train_images=100)
    assert first.fingerprint == again.fingerprint
    assert torch.equal(first.train.images, again.train.images)
    assert len({first.fingerprint, other.fingerprint, part.fingerprint}) == 3
    assert len(first.fingerprint) == 16
    assert torch.equal(first.test.images, part.test.images)
    assert class_counts(part.train) == [10] * 10


@pytest.mark.parametrize(
    ("text", "seed", "train_images", "reason"),
    [
        ("digit", 0, None, "unknown data set 'digit'; did you mean 'digits'?"),
        ("fashion_mnist:.", 0, None, "did you mean 'fashion-mnist'?"),
        ("", 0, None, "unknown data set ''"),
        ("folder", 0, None, "needs a location: folder:PATH, for example"),
        ("cifar10:", 0, None, "needs a location"),
        ("digits:somewhere", 0, None, "takes no location, not 'somewhere'"),
        ("digits", -1, None, "seed must be 0 or more, not -1"),
        ("digits", 0, 0, "--train-images must be at least 1, not 0"),
        ("digits", 0, 9, r"number of classes \(10\), not 9"),
    ],
)
def test_what_cannot_be_loaded_is_said(text: str, seed: int, train_images: int | None, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load(text, seed=seed, train_images=train_images)


def test_a_bare_path_gets_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"write folder:{tmp_path}"):
        load(str(tmp_path))


def test_registering_imports_no_heavy_library() -> None:
    code = (
        "import sys; from nas_edge.data import sources, load_data; sources.register_datasets(lambda s: None); "
        "print(sorted({'torch', 'torchvision', 'numpy', 'sklearn', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def write_idx(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """LeCun's format: two zero bytes, the type (8: unsigned byte), the dimensions, their sizes, the data."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.tobytes())


def fake_fashion(root: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 200), ("t10k", 50)):
        arrays[name] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(raw / f"{name}-images-idx3-ubyte", arrays[name])
        write_idx(raw / f"{name}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return arrays


def test_fashion_mnist_from_its_files(tmp_path: Path) -> None:
    arrays = fake_fashion(tmp_path)
    data = load(f"fashion-mnist:{tmp_path}")
    assert (len(data.train), len(data.validation), len(data.test)) == (180, 20, 50)
    assert (data.channels, data.resolution, data.classes[9]) == (1, 28, "Ankle boot")
    assert np.array_equal(data.test.images.numpy()[:, 0], arrays["t10k"])
    assert data.test.labels.tolist() == [i % 10 for i in range(50)]
    assert rows(data.train) | rows(data.validation) == {image.tobytes() for image in arrays["train"]}
    assert class_counts(data.validation) == [2] * 10
    assert data.augmentation.mirror
    check_statistics(data)
    assert class_counts(load(f"fashion-mnist:{tmp_path}", train_images=30).train) == [3] * 10


def test_damaged_or_missing_fashion_mnist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no '.*nowhere'.*FashionMNIST/raw/train-images-idx3-ubyte"):
        load(f"fashion-mnist:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match=r"Dataset not found.*FashionMNIST/raw"):
        load(f"fashion-mnist:{tmp_path}")
    fake_fashion(tmp_path)
    images = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1000])
    with pytest.raises(DataError, match="cannot be read"):
        load(f"fashion-mnist:{tmp_path}")
    write_idx(images, np.zeros((7, 28, 28), np.uint8))
    with pytest.raises(DataError, match="7 images but 200 labels"):
        load(f"fashion-mnist:{tmp_path}")
    write_idx(images, np.zeros((200, 28, 28), np.uint8))
    write_idx(images.with_name("train-labels-idx1-ubyte"), np.full(200, 10, np.uint8))
    with pytest.raises(DataError, match=r"labels in 10\.\.10 for 10 classes"):
        load(f"fashion-mnist:{tmp_path}")


def fake_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Files in CIFAR-10's format, and torchvision's table of checksums made to fit them."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    contents: dict[str, dict[str, object]] = {"batches.meta": {"label_names": names}}
    for batch in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        pixels = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        contents[batch] = {"data": pixels, "labels": [i % 10 for i in range(20)]}
    sums = {}
    for name, value in contents.items():
        (folder / name).write_bytes(pickle.dumps(value))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    reader = import_torchvision().datasets.CIFAR10
    monkeypatch.setattr(reader, "train_list", [[name, sums[name]] for name in sums if name.startswith("data")])
    monkeypatch.setattr(reader, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": sums["batches.meta"]})
    test = contents["test_batch"]["data"]
    assert isinstance(test, np.ndarray)
    return {"first": test[0].tolist()}


def test_cifar10_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = fake_cifar(tmp_path, monkeypatch)
    data = load(f"cifar10:{tmp_path}")
    assert (len(data.train), len(data.validation), len(data.test)) == (80, 20, 20)
    assert (data.channels, data.resolution, data.classes[3]) == (3, 32, "cat")
    # A row of the file is 1,024 red values, then green, then blue, each row by row.
    assert data.test.images[0].flatten().tolist() == wanted["first"]
    check_statistics(data)


def test_cifar10_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not found or corrupted.*cifar-10-batches-py/"):
        load(f"cifar10:{tmp_path}")
