"""The files of an image folder or tar archive, and which class and split each belongs to."""

from __future__ import annotations

import io
import logging
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from nas_edge.errors import DataError

log = logging.getLogger("nas_edge")

EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .webp .tif .tiff .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
MAX_FILE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Store:
    """The files under a folder or in an archive: relative names with "/", sorted, and how to open one."""

    names: tuple[str, ...]
    open: Callable[[str], BinaryIO]


@dataclass(frozen=True)
class Labelled:
    """Image files, ascending by name, with the class of each as a position in `classes`."""

    names: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Listing:
    """The images by split; `validation` and `test` are empty where they have to be drawn from `train`."""

    classes: tuple[str, ...]
    train: Labelled
    validation: Labelled
    test: Labelled


def open_store(path: Path, memory_bytes: int) -> Store:
    """The files of a folder, or of a tar archive (plain, gz, bz2 or xz), which is read into memory whole.

    Raises `DataError` where the path is neither of them, cannot be read, or the images of the archive take more than
    `memory_bytes`.
    """
    return _open_folder(path) if path.is_dir() else _open_archive(path, memory_bytes)


def _open_folder(root: Path) -> Store:
    def refuse(error: OSError) -> None:
        raise DataError(f"the folder {error.filename!r} cannot be read: {error.strerror}") from error

    names: list[str] = []
    seen: set[str] = set()
    for folder, below, files in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder that was read already, or to one above itself
            below.clear()
            continue
        seen.add(real)
        below.sort()
        names += [(Path(folder) / file).relative_to(root).as_posix() for file in files]

    def open_file(name: str) -> BinaryIO:
        path = root / name
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:  # opening a pipe would wait for ever
            raise ValueError(f"no regular file of at most {MAX_FILE_BYTES} bytes")
        return path.open("rb")

    return Store(_visible(names), open_file)


def _open_archive(path: Path, memory_bytes: int) -> Store:
    try:
        contents = _read_archive(path, memory_bytes)
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{str(path)!r} is neither a folder nor a tar archive that can be read ({error}); give a folder with a "
            "sub-folder of images for each class"
        ) from error
    names = _visible(list(contents))
    prefix = _wrapping_folder(names)
    return Store(tuple(n.removeprefix(prefix) for n in names), lambda name: io.BytesIO(contents[prefix + name]))


def _read_archive(path: Path, memory_bytes: int) -> dict[str, bytes]:
    """The files by name; those that are no images, or too large, without their content.

    Nothing is written to disk, so a member's path cannot lead anywhere.
    """
    contents: dict[str, bytes] = {}
    total = 0
    with tarfile.open(path) as archive:
        for member in archive:
            name = _member_name(member.name)
            if member.islnk():
                contents[name] = contents.get(_member_name(member.linkname), b"")
            elif member.isfile():
                wanted = _is_image(name) and member.size <= MAX_FILE_BYTES
                total += member.size if wanted else 0
                if total > memory_bytes:
                    raise DataError(
                        f"the images in {str(path)!r} take more than the {memory_bytes / 1e9:.2f} GB that those of an "
                        "archive may; unpack it and give the folder"
                    )
                file = archive.extractfile(member) if wanted else None
                contents[name] = file.read() if file else b""
    return contents


def _member_name(name: str) -> str:
    return str(PurePosixPath(name)).lstrip("/")


def _visible(names: list[str]) -> tuple[str, ...]:
    """Without hidden files and the ones that macOS adds to archives."""
    return tuple(sorted(n for n in names if not any(p.startswith((".", "__MACOSX")) for p in n.split("/"))))


def _wrapping_folder(names: tuple[str, ...]) -> str:
    """The folders that an archive has around its class or split folders, as a prefix with "/" at its end."""
    images = [n.split("/") for n in names if _is_image(n)]
    depth = 0
    while images and all(
        len(parts) >= depth + 3 and parts[depth] == images[0][depth] and parts[depth].lower() not in SPLIT_NAMES
        for parts in images
    ):
        depth += 1
    return "".join(f"{part}/" for part in images[0][:depth]) if images else ""


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def list_images(store: Store, where: str) -> Listing:
    """Sort the image files into splits and classes: `train/CLASS/...` or `CLASS/...`.

    Raises `DataError` where there are no images, fewer than two classes, no `train` beside ready splits, or a class
    of a ready split that `train` does not have.
    """
    images = [n for n in store.names if _is_image(n)]
    if not images:
        raise DataError(
            f"{where!r} holds no images ({', '.join(sorted(EXTENSIONS))}); it should hold a sub-folder of them for "
            "each class"
        )
    ready = _has_ready_splits(images)
    grouped: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
    ignored = 0
    for name in images:
        parts = name.split("/")
        split = SPLIT_NAMES.get(parts[0].lower()) if ready else "train"
        label = parts[1:-1] if ready else parts[:-1]
        if split and label:
            grouped[split].append((name, label[0]))
        else:
            ignored += 1
    if ignored:
        log.warning("%s: %d images outside of the class folders are left out", where, ignored)
    classes = _classes(grouped, where)
    _warn_of_folders_without_images(store, images, ready, where)
    place = {name: position for position, name in enumerate(classes)}
    labelled = {
        split: Labelled(tuple(name for name, _ in files), tuple(place[label] for _, label in files))
        for split, files in grouped.items()
    }
    return Listing(classes, labelled["train"], labelled["validation"], labelled["test"])


def _has_ready_splits(images: list[str]) -> bool:
    """Whether `train` and its like are splits: they hold folders, and not every class folder is beside them."""
    nested = {n.split("/")[0].lower() for n in images if n.count("/") >= 2}
    splits = {SPLIT_NAMES[n] for n in nested if n in SPLIT_NAMES}
    tops = {n.split("/")[0].lower() for n in images if "/" in n}
    return bool(splits) and (len(splits) > 1 or tops <= SPLIT_NAMES.keys())


def _classes(grouped: dict[str, list[tuple[str, str]]], where: str) -> tuple[str, ...]:
    if not grouped["train"] and (grouped["validation"] or grouped["test"]):
        raise DataError(f"{where!r} has ready splits but no images in a folder 'train'; add it")
    classes = tuple(sorted({label for _, label in grouped["train"]}))
    if len(classes) < 2:
        found = f"only the class {classes[0]!r}" if classes else "images, but none in a class folder"
        raise DataError(f"{where!r} holds {found}; at least 2 classes are needed, each a sub-folder with images")
    for split in ("validation", "test"):
        for name, label in grouped[split]:
            if label not in classes:
                raise DataError(f"{where!r}: {name} is of the class {label!r}, which the train folder does not have")
    return classes


def _warn_of_folders_without_images(store: Store, images: list[str], ready: bool, where: str) -> None:
    depth = 2 if ready else 1

    def folders(names: list[str]) -> set[str]:
        return {"/".join(n.split("/")[:depth]) for n in names if n.count("/") >= depth}

    for folder in sorted(folders(list(store.names)) - folders(images)):
        log.warning("%s: %s holds files but no images, and is left out", where, folder)
