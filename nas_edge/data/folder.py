"""An image folder, or a tar archive of one, to an `ImageData`."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np

from nas_edge.contracts import ImageData, Split
from nas_edge.data.assemble import Images, Labels, assemble, make_split, usual_augmentation
from nas_edge.data.decode import Geometry, decode_files, find_geometry
from nas_edge.data.listing import Labelled, Listing, Store, list_images, open_store
from nas_edge.data.memory import available_bytes
from nas_edge.data.splits import VALIDATION_MOST, bounded, split_pool
from nas_edge.errors import DataError

log = logging.getLogger("nas_edge")

SPLITS = ("train", "validation", "test")
MEMORY_SHARE = 0.5
ARCHIVE_SHARE = 0.25


def load_folder(path: Path, *, seed: int, train_images: int | None = None) -> ImageData:
    """Decode the images under `path` into three disjoint splits.

    A split that is not ready is drawn from the train images, stratified. Only the files that a split takes are
    decoded. An image that is in two splits, pixel by pixel, stays in the later of train, validation and test.

    Raises `DataError` where the path holds no usable images, or more than half of the memory takes.
    """
    where = str(path)
    store = open_store(path, int(available_bytes() * ARCHIVE_SHARE))
    listing = list_images(store, where)
    geometry = find_geometry(where, listing.train.names, store.open)
    chosen = _choose(listing, seed, train_images)
    _check_memory(where, chosen, geometry, int(available_bytes() * MEMORY_SHARE))
    skipped: dict[str, str] = {}
    splits = _drop_duplicates(where, [_decode(store, chosen[split], geometry, skipped) for split in SPLITS])
    if skipped:
        named = [f"{name} ({fault})" for name, fault in list(skipped.items())[:3]]
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        log.warning("%s: %d files do not decode: %s%s", where, len(skipped), ", ".join(named), more)
    _check_classes(where, listing, chosen["train"], splits[0])
    return assemble(
        "folder",
        listing.classes,
        splits,
        augmentation=usual_augmentation(splits[0].images.shape[1]),
        preprocessing=geometry.words,
        skipped=tuple(skipped),
    )


def _choose(listing: Listing, seed: int, train_images: int | None) -> dict[str, Labelled]:
    """The files of each split."""
    pool = listing.train
    parts = split_pool(
        np.asarray(pool.labels, np.int64),
        listing.classes,
        seed=seed,
        train_images=train_images,
        draw_validation=not listing.validation.names,
        draw_test=not listing.test.names,
    )
    validation = listing.validation
    if len(validation.names) > VALIDATION_MOST:
        validation = _take(validation, bounded(np.asarray(validation.labels, np.int64), VALIDATION_MOST, seed=seed))
    return {
        "train": _take(pool, parts.train),
        "validation": validation if validation.names else _take(pool, parts.validation),
        "test": listing.test if listing.test.names else _take(pool, parts.test),
    }


def _take(files: Labelled, places: Labels) -> Labelled:
    return Labelled(tuple(files.names[p] for p in places), tuple(files.labels[p] for p in places))


def _check_memory(where: str, chosen: dict[str, Labelled], geometry: Geometry, bound_bytes: int) -> None:
    counts = {split: len(files.names) for split, files in chosen.items()}
    need_bytes = sum(counts.values()) * geometry.bytes_per_image
    if need_bytes <= bound_bytes:
        return
    fits = bound_bytes // geometry.bytes_per_image - counts["validation"] - counts["test"]
    remedy = f"give --train-images {fits} or fewer" if fits > 0 else "use fewer validation and test images"
    raise DataError(
        f"{where!r}: {sum(counts.values())} images of {geometry.channels}x{geometry.size}x{geometry.size} take "
        f"{need_bytes / 1e9:.2f} GB, more than the {bound_bytes / 1e9:.2f} GB that data may take here; {remedy}"
    )


def _decode(store: Store, files: Labelled, geometry: Geometry, skipped: dict[str, str]) -> tuple[Images, Labels]:
    images, faults = decode_files(files.names, store.open, geometry)
    skipped.update((files.names[place], faults[place]) for place in sorted(faults))
    decoded = np.ones(len(images), np.bool_)
    decoded[list(faults)] = False
    return _keep(images, np.asarray(files.labels, np.int64), decoded)


def _keep(images: Images, labels: Labels, wanted: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[Images, Labels]:
    """The wanted images, moved together in place: a copy would double the memory."""
    places = np.flatnonzero(wanted)
    if len(places) < len(images):
        for to, place in enumerate(places):
            images[to] = images[place]
    return images[: len(places)], labels[places]


def _drop_duplicates(where: str, splits: list[tuple[Images, Labels]]) -> tuple[Split, Split, Split]:
    """Without the images of train that are in validation or test, and those of validation that are in test."""
    seen: set[bytes] = set()
    kept: list[Split] = []
    dropped = 0
    for images, labels in reversed(splits):
        digests = [hashlib.blake2b(image, digest_size=16).digest() for image in images]
        wanted = np.array([digest not in seen for digest in digests], np.bool_)
        dropped += int((~wanted).sum())
        seen.update(digests)
        kept.append(make_split(*_keep(images, labels, wanted)))
    if dropped:
        log.warning("%s: %d images are in two splits and were dropped from the earlier one", where, dropped)
    test, validation, train = kept
    return train, validation, test


def _check_classes(where: str, listing: Listing, files: Labelled, train: Split) -> None:
    left = np.bincount(train.labels.numpy(), minlength=len(listing.classes))
    drawn = np.bincount(np.asarray(files.labels, np.int64), minlength=len(listing.classes))
    for name, count, of in zip(listing.classes, left, drawn, strict=True):
        if not count:
            raise DataError(
                f"{where!r}: none of the {of} training images of class {name!r} is usable: they do not decode, or are "
                "in the validation or test images too; mend them or remove the class"
            )
