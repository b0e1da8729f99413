"""Image folders made by the tests, and how to load them."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from nas_edge import DataSource, ImageData
from nas_edge.data import load_data
from nas_edge.data.sources import register_datasets


def sources() -> dict[str, DataSource]:
    found: dict[str, DataSource] = {}

    def register(source: DataSource) -> None:
        found[source.name] = source

    register_datasets(register)
    return found


def load(text: str, *, seed: int = 0, train_images: int | None = None) -> ImageData:
    return load_data(sources(), text, seed=seed, train_images=train_images)


def picture(number: int, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Image.Image:
    """A picture of random pixels, width by height, another one for each number."""
    width, height = size
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.fromarray(pixels[:, :, 0] if bands == 1 else pixels, mode=None).convert(mode)


def make_classes(
    root: Path,
    classes: Sequence[str] = ("cat", "dog"),
    *,
    count: int = 10,
    start: int = 0,
    extension: str = "png",
    mode: str = "RGB",
) -> Path:
    """`root/CLASS/0000.png`, ...: `count` different pictures a class, numbered from `start`."""
    for position, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = picture(start + 1000 * position + number, mode=mode)
            image.save(root / name / f"{number:04}.{extension}")
    return root


def make_archive(root: Path, path: Path, *, inside: str = ".") -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        archive.add(root, inside)
    return path
