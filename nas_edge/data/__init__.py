"""Data sets in memory: where they come from, how they are split, and how they become batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nas_edge.contracts import DataSource, ImageData
from nas_edge.errors import UserError, unknown_name


def load_data(
    datasets: Mapping[str, DataSource], text: str, *, seed: int, train_images: int | None = None
) -> ImageData:
    """The data set that `name` or `name:location` stands for, in its splits for that seed.

    Raises `UserError` for a name that is not in `datasets`, a missing location, a negative seed or fewer than one
    training image, and `DataError` where the location holds no usable data.
    """
    name, _, location = text.partition(":")
    if name not in datasets:
        raise _unknown(name, text, datasets)
    source = datasets[name]
    if source.needs_location and not location:
        raise UserError(f"data set {name!r} needs a location: {name}:PATH, for example {name}:./data")
    if seed < 0:
        raise UserError(f"the seed must be 0 or more, not {seed}")
    if train_images is not None and train_images < 1:
        raise UserError(f"--train-images must be at least 1, not {train_images}")
    return source.load(location, seed=seed, train_images=train_images)


def _unknown(name: str, text: str, datasets: Mapping[str, DataSource]) -> UserError:
    if "folder" in datasets and text and Path(text).exists():
        return UserError(f"unknown data set {text!r}; for a folder of images write folder:{text}")
    return unknown_name("data set", name, datasets)
