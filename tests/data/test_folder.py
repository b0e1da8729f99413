"""Image folders and archives, whole."""

from __future__ import annotations

import logging
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_edge import Augmentation, DataError, ImageData, Split, UserError
from nas_edge.data import folder
from nas_edge.data.memory import available_bytes

from .image_folders import load, make_archive, make_classes, picture


def rows(split: Split) -> list[bytes]:
    return [image.tobytes() for image in split.images.numpy()]


def check_disjoint(data: ImageData) -> None:
    train, validation, test = (set(rows(split)) for split in (data.train, data.validation, data.test))
    assert not train & validation
    assert not train & test
    assert not validation & test


def counts(split: Split) -> list[int]:
    return [int(count) for count in np.bincount(split.labels.numpy())]


def test_class_folders_without_ready_splits(tmp_path: Path) -> None:
    data = load(f"folder:{make_classes(tmp_path, ('dog', 'cat', 'bird'))}")
    assert data.classes == ("bird", "cat", "dog")
    assert (counts(data.train), counts(data.validation), counts(data.test)) == ([6] * 3, [2] * 3, [2] * 3)
    assert (data.channels, data.resolution, data.skipped) == (3, 10, ())
    assert data.augmentation == Augmentation(shift=1 / 8, mirror=True)
    check_disjoint(data)
    wanted = {
        np.asarray(picture(n).crop((1, 0, 11, 10))).transpose(2, 0, 1).tobytes(): label
        for label, start in ((2, 0), (1, 1000), (0, 2000))
        for n in range(start, start + 10)
    }
    found: dict[bytes, int] = {}
    for split in (data.train, data.validation, data.test):
        found.update(zip(rows(split), split.labels.tolist(), strict=True))
    assert found == wanted
    assert "resized to 10x10" in data.preprocessing
    assert "divided by 255" in data.preprocessing


def test_the_seed_decides_and_repeats(tmp_path: Path) -> None:
    text = f"folder:{make_classes(tmp_path)}"
    first, again, other = load(text), load(text), load(text, seed=1)
    assert first.fingerprint == again.fingerprint
    assert rows(first.train) == rows(again.train)
    assert first.fingerprint != other.fingerprint
    assert set(rows(first.test)) != set(rows(other.test))


def test_an_image_changes_the_fingerprint(tmp_path: Path) -> None:
    text = f"folder:{make_classes(tmp_path)}"
    before = load(text).fingerprint
    picture(77).save(tmp_path / "cat" / "0003.png")
    assert load(text).fingerprint != before
    (tmp_path / "dog").rename(tmp_path / "hound")
    assert load(text).classes == ("cat", "hound")


@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_ready_splits_are_kept(tmp_path: Path, validation: str) -> None:
    make_classes(tmp_path / "train", count=4)
    make_classes(tmp_path / validation, count=3, start=100)
    make_classes(tmp_path / "test", count=2, start=200)
    data = load(f"folder:{tmp_path}")
    assert (counts(data.train), counts(data.validation), counts(data.test)) == ([4, 4], [3, 3], [2, 2])
    test = {np.asarray(picture(n).crop((1, 0, 11, 10))).transpose(2, 0, 1).tobytes() for n in (200, 201, 1200, 1201)}
    assert set(rows(data.test)) == test


def test_missing_splits_are_drawn_from_train(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", count=20)
    assert counts(load(f"folder:{tmp_path}").test) == [4, 4]
    make_classes(tmp_path / "test", count=5, start=100)
    data = load(f"folder:{tmp_path}")
    assert (counts(data.train), counts(data.validation), counts(data.test)) == ([18, 18], [2, 2], [5, 5])
    check_disjoint(data)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load(f"folder:{make_classes(tmp_path, ('car', 'train'))}").classes == ("car", "train")


def test_train_images_decodes_only_those(tmp_path: Path) -> None:
    text = f"folder:{make_classes(tmp_path, count=20)}"
    whole, part = load(text), load(text, train_images=6)
    assert counts(part.train) == [3, 3]
    assert set(rows(part.train)) < set(rows(whole.train))
    assert rows(part.test) == rows(whole.test)
    with pytest.raises(UserError, match=r"number of classes \(2\), not 1"):
        load(text, train_images=1)


def test_files_that_do_not_decode_are_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_classes(tmp_path, count=10, extension="jpg")
    (tmp_path / "cat" / "0001.jpg").write_bytes(b"")
    broken = tmp_path / "dog" / "0002.jpg"
    broken.write_bytes(broken.read_bytes()[:-60])
    (tmp_path / "dog" / "notes.txt").write_text("no image, and not counted")
    (tmp_path / "dog" / ".hidden.jpg").write_text("nor this")
    with caplog.at_level(logging.WARNING, "nas_edge"):
        data = load(f"folder:{tmp_path}")
    assert sorted(data.skipped) == ["cat/0001.jpg", "dog/0002.jpg"]
    assert sum(len(split) for split in (data.train, data.validation, data.test)) == 18
    assert "2 files do not decode" in caplog.text
    assert "cat/0001.jpg" in caplog.text


def test_mixed_formats_modes_and_sizes(tmp_path: Path) -> None:
    make_classes(tmp_path, count=6, extension="JPG")
    for number, mode in enumerate(("RGBA", "P", "L", "LA", "1")):
        picture(500 + number, (30, 20 + number), mode).save(tmp_path / "cat" / f"x{number}.png")
    data = load(f"folder:{tmp_path}")
    assert data.skipped == ()
    assert sum(len(split) for split in (data.train, data.validation, data.test)) == 17
    assert data.channels == 3


def test_grey_folders_have_one_channel(tmp_path: Path) -> None:
    data = load(f"folder:{make_classes(tmp_path, mode='L')}")
    assert data.channels == len(data.mean) == 1
    assert "mode L" in data.preprocessing
    assert not data.augmentation.mirror  # digits and signs are often grey


def test_a_duplicate_stays_in_the_later_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_classes(tmp_path / "train", count=6)
    make_classes(tmp_path / "val", count=3, start=100)
    make_classes(tmp_path / "test", count=3, start=200)
    shutil.copy(tmp_path / "test" / "cat" / "0000.png", tmp_path / "train" / "cat" / "copy.png")
    shutil.copy(tmp_path / "test" / "dog" / "0001.png", tmp_path / "val" / "cat" / "copy.png")
    shutil.copy(tmp_path / "val" / "dog" / "0001.png", tmp_path / "train" / "dog" / "copy.png")
    with caplog.at_level(logging.WARNING, "nas_edge"):
        data = load(f"folder:{tmp_path}")
    assert (counts(data.train), counts(data.validation), counts(data.test)) == ([6, 6], [3, 3], [3, 3])
    check_disjoint(data)
    assert "3 images are in two splits" in caplog.text


def test_files_outside_of_classes_and_folders_without_images_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_classes(tmp_path)
    picture(9).save(tmp_path / "stray.png")
    (tmp_path / "heic").mkdir()
    (tmp_path / "heic" / "a.heic").write_bytes(b"x")
    with caplog.at_level(logging.WARNING, "nas_edge"):
        assert load(f"folder:{tmp_path}").classes == ("cat", "dog")
    assert "1 images outside of the class folders" in caplog.text
    assert "heic holds files but no images" in caplog.text


def test_folder_links_are_followed_once(tmp_path: Path) -> None:
    make_classes(tmp_path / "elsewhere", ("cat",), start=500)
    make_classes(tmp_path / "data", ("dog",))
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (tmp_path / "data" / "dog" / "loop").symlink_to(tmp_path / "data")
    os.mkfifo(tmp_path / "data" / "dog" / "pipe.png")
    data = load(f"folder:{tmp_path / 'data'}")
    assert data.classes == ("cat", "dog")
    assert sum(len(split) for split in (data.train, data.validation, data.test)) == 20
    assert data.skipped == ("dog/pipe.png",)


@pytest.mark.parametrize(("name", "inside"), [("data.tar.gz", "."), ("data.tar", "pictures"), ("data.tgz", "a/b")])
def test_an_archive_is_the_folder_it_holds(tmp_path: Path, name: str, inside: str) -> None:
    make_classes(tmp_path / "images" / "train", count=6)
    make_classes(tmp_path / "images" / "test", count=3, start=100)
    os.link(tmp_path / "images/train/cat/0001.png", tmp_path / "images/train/cat/hard.png")
    archive = make_archive(tmp_path / "images", tmp_path / name, inside=inside)
    before = sorted(tmp_path.rglob("*"))
    from_archive, from_folder = load(f"folder:{archive}"), load(f"folder:{tmp_path / 'images'}")
    assert from_archive.fingerprint == from_folder.fingerprint
    assert sorted(tmp_path.rglob("*")) == before  # nothing was unpacked


def test_paths_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    make_classes(tmp_path / "images")
    path = tmp_path / "data.tar"
    make_archive(tmp_path / "images", path)
    with tarfile.open(path, "a") as archive:
        archive.add(tmp_path / "images/cat/0000.png", "../escape/0.png", filter=_unchanged)
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    data = load(f"folder:{path}")
    assert data.classes == ("cat", "dog")
    assert data.skipped == ()
    assert not (tmp_path.parent / "escape").exists()


def _unchanged(member: tarfile.TarInfo) -> tarfile.TarInfo:
    return member


def test_damaged_archives(tmp_path: Path) -> None:
    make_classes(tmp_path / "images")
    whole = make_archive(tmp_path / "images", tmp_path / "data.tar.gz").read_bytes()
    for name, data in (("cut.tar.gz", whole[: len(whole) // 2]), ("text.tar", b"hello"), ("empty.tar", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="neither a folder nor a tar archive that can be read"):
            load(f"folder:{tmp_path / name}")


def test_missing_and_unusable_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no '.*/nowhere' \(No such file.*sub-folder of images for each"):
        load(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match="File name too long"):
        load(f"folder:{tmp_path / ('x' * 300)}")
    with pytest.raises(DataError, match="holds no images"):
        load(f"folder:{tmp_path}")
    picture(1).save(tmp_path / "flat.png")
    with pytest.raises(DataError, match="images, but none in a class folder"):
        load(f"folder:{tmp_path}")
    make_classes(tmp_path, ("cat",))
    with pytest.raises(DataError, match="only the class 'cat'; at least 2 classes"):
        load(f"folder:{tmp_path}")
    make_classes(tmp_path, ("dog",), count=4)
    with pytest.raises(DataError, match="class 'dog' has 4 images, too few"):
        load(f"folder:{tmp_path}")


def test_ready_splits_that_do_not_fit(tmp_path: Path) -> None:
    make_classes(tmp_path / "test", count=3)
    with pytest.raises(DataError, match="no images in a folder 'train'"):
        load(f"folder:{tmp_path}")
    make_classes(tmp_path / "train", ("cat", "fox"), count=5, start=100)
    with pytest.raises(DataError, match=r"test/dog/0000.png is of the class 'dog', which the train folder does not"):
        load(f"folder:{tmp_path}")


def test_corrupt_folders(tmp_path: Path) -> None:
    make_classes(tmp_path)
    for path in (tmp_path / "cat").iterdir():
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"none of the 6 training images of class 'cat' is usable"):
        load(f"folder:{tmp_path}")
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"none of the images in .* can be read, for example cat/0000.png"):
        load(f"folder:{tmp_path}")


def test_more_than_the_memory_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"folder:{make_classes(tmp_path)}"  # 20 images of 300 bytes: 12 for training and 8 beside
    monkeypatch.setattr(folder, "available_bytes", lambda: 2 * 300 * 15)
    with pytest.raises(DataError, match=r"20 images of 3x10x10 take .* give --train-images 7 or fewer"):
        load(text)
    assert counts(load(text, train_images=7).train) in ([3, 4], [4, 3])
    monkeypatch.setattr(folder, "available_bytes", lambda: 2 * 300 * 8)
    with pytest.raises(DataError, match="use fewer validation and test images"):
        load(text)
    archive = make_archive(tmp_path, tmp_path / "data.tar")
    with pytest.raises(DataError, match="unpack it and give the folder"):
        load(f"folder:{archive}")


def test_available_memory_is_that_of_the_container_where_smaller(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  8000 kB\nMemAvailable:    4000 kB\n")
    assert available_bytes(meminfo, tmp_path) == 4_096_000
    (tmp_path / "memory.current").write_text("100\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(meminfo, tmp_path) == 4_096_000
    (tmp_path / "memory.max").write_text("5100\n")
    assert available_bytes(meminfo, tmp_path) == 5_000


def test_the_words_on_preprocessing_repeat_it(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", count=5)
    make_classes(tmp_path / "test", count=1, start=50)
    picture(50, (40, 31)).save(tmp_path / "test" / "cat" / "0000.png")
    data = load(f"folder:{tmp_path}")
    with Image.open(tmp_path / "test" / "cat" / "0000.png") as image:
        repeated = image.crop((4, 0, 35, 31)).resize((10, 10), Image.Resampling.BILINEAR)
    assert "s = min(w, h)" in data.preprocessing
    assert np.array_equal(data.test.images[0].numpy(), np.asarray(repeated).transpose(2, 0, 1))
