"""Image files to uint8 arrays of one size, in parallel; what does not decode is reported, not guessed at."""

from __future__ import annotations

import os
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from nas_edge.classify import open_image, read_image, words
from nas_edge.errors import DataError

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
LEAST_SIZE, MOST_SIZE = 8, 224
SAMPLED = 1_000
CHUNK = 64

Open = Callable[[str], BinaryIO]


@dataclass(frozen=True)
class Geometry:
    """What every image is brought to: [channels, size, size]."""

    channels: int
    size: int

    @property
    def bytes_per_image(self) -> int:
        return self.channels * self.size * self.size

    @property
    def words(self) -> str:
        """The preprocessing, exactly, for the person who has to repeat it."""
        return words(self.channels, self.size)


def find_geometry(where: str, names: Sequence[str], open_file: Open) -> Geometry:
    """The geometry for files of mixed sizes, from the headers of up to 1,000 of them.

    The size is the median of the shorter sides in pixels, within 8..224 and above 32 rounded to a multiple of 8. There
    is one channel where all are grey, else three. Raises `DataError` where no header can be read.
    """
    sides: list[int] = []
    grey = True
    fault = ""
    with _quiet_pillow():
        for place in np.linspace(0, len(names) - 1, min(len(names), SAMPLED)).astype(int):
            try:
                with open_file(names[place]) as file, open_image(file) as image:
                    sides.append(min(image.size))
                    grey = grey and image.mode in GREY_MODES
            except Exception as error:  # decoding meets the same file again, and names it
                fault = fault or f"{names[place]} ({_reason(error)})"
    if not sides:
        raise DataError(f"none of the images in {where!r} can be read, for example {fault}")
    size = round(statistics.median(sides))
    if size > 32:
        size = round(size / 8) * 8
    return Geometry(1 if grey else 3, min(max(size, LEAST_SIZE), MOST_SIZE))


def decode_files(names: Sequence[str], open_file: Open, geometry: Geometry) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode files in parallel: uint8 [N, C, S, S], and why the files at some positions, left zero, do not decode."""
    images = np.zeros((len(names), geometry.channels, geometry.size, geometry.size), np.uint8)
    faults: dict[int, str] = {}

    def decode_chunk(start: int) -> None:
        for place in range(start, min(start + CHUNK, len(names))):
            try:
                with open_file(names[place]) as file:
                    images[place] = decode(file, geometry)
            except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
                faults[place] = _reason(error)

    with _quiet_pillow(), ThreadPoolExecutor(_cores()) as pool:
        for _ in pool.map(decode_chunk, range(0, len(names), CHUNK)):
            pass
    return images, faults


def decode(file: BinaryIO, geometry: Geometry) -> NDArray[np.uint8]:
    """One image file to uint8 [C, S, S], as `Geometry.words` says. Raises what Pillow raises for a damaged file."""
    image: NDArray[np.uint8] = read_image(file, geometry.channels, geometry.size)
    return image


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "not an image" if isinstance(error, UnidentifiedImageError) else text or type(error).__name__


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Pillow warns of odd metadata and large images, which are decoded or refused all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
