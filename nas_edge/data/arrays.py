"""Images in arrays: those of an .npz file to an `ImageData`, and a `Dataset` or arrays of Python to such a file.

A file holds `images`, uint8 `[count, channels, side, side]`, and `labels`, whole numbers `[count]`. Grey images may
lack the channels, and colours may come last. `validation_images` and `validation_labels`, and the same for `test`, are
ready splits; those that are missing are drawn from the others. `classes` names the labels, `shift` and `mirror` are the
`Augmentation`.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from nas_edge.contracts import Augmentation, ImageData, Split
from nas_edge.data.assemble import COLOURS, Images, Labels, assemble, make_split, usual_augmentation
from nas_edge.data.memory import available_bytes
from nas_edge.data.splits import VALIDATION_MOST, bounded, split_pool
from nas_edge.errors import DataError

SPLITS = ("train", "validation", "test")
MEMORY_SHARE = 0.5  # of what is free, that the arrays of a file may take
PREPROCESSING = "Pixels 0..255 as the arrays have them, unchanged."
SAVE = "save it with numpy.savez(path, images=..., labels=...)"
Pair = tuple[Images, Labels]


def load_arrays(path: Path, *, seed: int, train_images: int | None = None) -> ImageData:
    """The images of an .npz file in three disjoint splits.

    Raises `DataError` where it is no such file, its arrays do not fit together, or take more than half of the memory.
    """
    where = str(path)
    found = _read(path, where)
    parts = {split: _pair(found, split, where) for split in SPLITS if _key("images", split) in found}
    if "train" not in parts:
        raise DataError(f"{where!r} has no array 'images'; {SAVE}")
    shapes = {images.shape[1:] for images, _ in parts.values()}
    if len(shapes) > 1:
        raise DataError(f"{where!r}: the splits have images of {' and '.join(map(_size, sorted(shapes)))}; resize them")
    classes = _classes(found, parts, where)
    images, labels = parts["train"]
    drawn = split_pool(
        labels,
        classes,
        seed=seed,
        train_images=train_images,
        draw_validation="validation" not in parts,
        draw_test="test" not in parts,
    )
    own = {"train": drawn.train, "validation": drawn.validation, "test": drawn.test}
    splits = {split: make_split(images[own[split]], labels[own[split]]) for split in SPLITS}
    for split in parts.keys() - {"train"}:
        splits[split] = _ready(parts[split], seed if split == "validation" else None)
    return assemble(
        "arrays",
        classes,
        (splits["train"], splits["validation"], splits["test"]),
        augmentation=_augmentation(found, images.shape[1], where),
        preprocessing=PREPROCESSING,
    )


def _read(path: Path, where: str) -> dict[str, NDArray[Any]]:
    most = int(available_bytes() * MEMORY_SHARE)
    try:
        with zipfile.ZipFile(path) as archive:
            needed = sum(entry.file_size for entry in archive.infolist())
        if needed <= most:
            with np.load(path, allow_pickle=False) as stored:
                found = {name: stored[name] for name in stored.files}
    except Exception as error:  # what a damaged file makes numpy and zipfile raise is of many kinds
        raise DataError(f"{where!r} is no .npz file of plain arrays ({error}); {SAVE}") from None
    if needed > most:
        raise DataError(
            f"{where!r}: its arrays take {needed / 1e9:.2f} GB, more than the {most / 1e9:.2f} GB that data may take "
            "here; keep fewer images"
        )
    for name, array in found.items():
        if not isinstance(array, np.ndarray):  # numpy gives a member that is no array as its bytes
            raise DataError(f"{where!r}: {name!r} is no array; {SAVE}")
    return found


def _key(what: str, split: str) -> str:
    return what if split == "train" else f"{split}_{what}"


def _pair(found: Mapping[str, NDArray[Any]], split: str, where: str) -> Pair:
    images, labels = (found.get(_key(what, split)) for what in ("images", "labels"))
    if images is None or labels is None:
        raise DataError(f"{where!r} has an array {_key('images', split)!r} but no {_key('labels', split)!r}; add it")
    return _images(images, f"{where!r}: {_key('images', split)!r}"), _labels(labels, len(images), where, split)


def _images(images: NDArray[Any], what: str) -> Images:
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] == images.shape[2] and images.shape[3] in (1, COLOURS):
        images = images.transpose(0, 3, 1, 2)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise DataError(
            f"{what} is {images.dtype} {list(images.shape)}; it must be uint8 [count, channels, side, side], "
            "square images with pixels 0..255"
        )
    return np.ascontiguousarray(images)


def _labels(labels: NDArray[Any], images: int, where: str, split: str) -> Labels:
    if labels.dtype.kind not in "iu" or labels.shape != (images,):
        raise DataError(
            f"{where!r}: {_key('labels', split)!r} is {labels.dtype} {list(labels.shape)} for {images} images; it must "
            "be a whole number for each"
        )
    return np.asarray(labels, np.int64)


def _classes(found: Mapping[str, NDArray[Any]], parts: Mapping[str, Pair], where: str) -> list[str]:
    labels = np.concatenate([labels for _, labels in parts.values()])
    if not len(labels):
        raise DataError(f"{where!r} has no images")
    low, high = int(labels.min()), int(labels.max())
    names = found.get("classes")
    if names is not None and names.ndim != 1:
        raise DataError(f"{where!r}: 'classes' is {names.dtype} {list(names.shape)}; it must be a name for each class")
    count = min(high + 1, len(labels)) if names is None else len(names)
    if low < 0 or high >= count:
        raise DataError(f"{where!r}: labels are in {low}..{high} for {count} classes; number the classes from 0")
    return [str(name) for name in (range(count) if names is None else names)]


def _augmentation(found: Mapping[str, NDArray[Any]], channels: int, where: str) -> Augmentation:
    usual = usual_augmentation(channels)
    try:
        shift, mirror = float(found.get("shift", usual.shift)), bool(found.get("mirror", usual.mirror))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where!r}: 'shift' must be one number and 'mirror' one truth value ({error})") from None
    if not 0 <= shift < 1:
        raise DataError(f"{where!r}: 'shift' is {shift}; it must be a share of the image's side, 0 or more and below 1")
    return Augmentation(shift, mirror)


def _ready(pair: Pair, seed: int | None) -> Split:
    """A split as it was given; that for validation bounded, for each candidate is judged on all of it."""
    images, labels = pair
    if seed is not None and len(labels) > VALIDATION_MOST:
        chosen = bounded(labels, VALIDATION_MOST, seed=seed)
        images, labels = images[chosen], labels[chosen]
    return make_split(images, labels)


def _size(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in shape)


# --- from Python


def pack(data: Any, folder: Path) -> Path:
    """The .npz file of data that is given from Python, in that folder: the same data is the same file.

    `data` is an `ImageData`, a `Dataset` with a length whose items are pairs of image and label, a pair of arrays
    (images, labels), or a mapping from "train", "validation" and "test" to such, with an `Augmentation` beside them
    where one is wanted. An image is one of PIL, an array or tensor of uint8, or of floats in 0..1 with the channels
    first. Raises `DataError` naming the item that is none.
    """
    arrays = _arrays(data)
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    path = folder / f"data-{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=path.stem, suffix=".tmp", delete=False) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # its keyword `allow_pickle` is none of ours
        Path(file.name).replace(path)
    return path


def _arrays(data: Any) -> dict[str, NDArray[Any]]:
    if isinstance(data, ImageData):
        given = {split: (getattr(data, split).images, getattr(data, split).labels) for split in SPLITS}
        return _arrays({**given, "augmentation": data.augmentation, "classes": data.classes})
    if not isinstance(data, Mapping):
        data = {"train": data}
    unknown = data.keys() - {*SPLITS, "augmentation", "classes"}
    if "train" not in data or unknown:
        raise DataError(
            f"data has the keys {', '.join(map(repr, data))}; give 'train' and, where you have them, 'validation', "
            "'test', 'classes' and 'augmentation'"
        )
    arrays: dict[str, NDArray[Any]] = {}
    for split in (split for split in SPLITS if split in data):
        images, labels = _given(data[split], split)
        arrays |= {_key("images", split): images, _key("labels", split): labels}
    classes = data.get("classes") or getattr(data["train"], "classes", None)
    if classes is not None:
        arrays["classes"] = np.array([str(name) for name in classes])
    if (augmentation := data.get("augmentation")) is not None:
        arrays |= {"shift": np.array(augmentation.shift), "mirror": np.array(augmentation.mirror)}
    return arrays


def _given(part: Any, split: str) -> Pair:
    if isinstance(part, (tuple, list)) and len(part) == 2 and all(hasattr(array, "shape") for array in part):
        images, labels = (np.asarray(array) for array in part)
        if images.dtype.kind == "f":
            images = _whole(images, f"{split}: the images")
        return _images(images, f"{split}: the images are an array that"), _labels(labels, len(images), "data", split)
    if not hasattr(part, "__len__") or not hasattr(part, "__getitem__"):
        raise DataError(
            f"{split}: {type(part).__name__} is no data set; give one with __len__ and __getitem__, whose items are "
            "(image, label), or a pair of arrays"
        )
    if not len(part):
        raise DataError(f"{split}: the data set is empty; add images")
    found: Images | None = None
    labels = np.empty(len(part), np.int64)
    for number in range(len(part)):
        what = f"{split}: item {number}"
        try:
            given, label = part[number]
            labels[number] = int(label)
        except (TypeError, ValueError) as error:
            raise DataError(f"{what} is no pair of an image and a whole number: {error}; return both") from None
        image = _image(given, what)
        if found is None:
            found = np.empty((len(part), *image.shape), np.uint8)
        if image.shape != found.shape[1:]:
            raise DataError(
                f"{what} is {_size(image.shape)}, the first {_size(found.shape[1:])}; bring all to one size, as "
                "torchvision.transforms.Resize((side, side)) does"
            )
        found[number] = image
    assert found is not None
    return found, labels


def _image(given: Any, what: str) -> NDArray[np.uint8]:
    """One image as uint8 [channels, side, side]."""
    if isinstance(given, PIL.Image.Image) and given.mode not in ("L", "RGB"):
        given = given.convert("RGB")
    image = np.asarray(given)
    whole: NDArray[np.uint8] = _images((_whole(image, what) if image.dtype.kind == "f" else image)[None], what)[0]
    return whole


def _whole(images: NDArray[Any], what: str) -> NDArray[np.uint8]:
    low, high = float(images.min()), float(images.max())
    if not 0 <= low <= high <= 1:
        raise DataError(
            f"{what} has floats in {low:.3g}..{high:.3g}; give them in 0..1, before any Normalize: normalisation is "
            "inside the model"
        )
    whole: NDArray[np.uint8] = np.rint(images * 255).astype(np.uint8)
    return whole
