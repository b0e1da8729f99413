"""Image files to arrays: sizes, modes, orientation, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from nas_edge import DataError
from nas_edge.classify import MAX_PIXELS
from nas_edge.data.decode import Geometry, decode, decode_files, find_geometry

from .image_folders import picture

RGB, GREY = 3, 1


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes, channels: int = RGB, size: int = 8) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return decode(io.BytesIO(data), Geometry(channels, size))


def opener(*files: bytes) -> tuple[list[str], Callable[[str], BinaryIO]]:
    return [str(place) for place in range(len(files))], lambda name: io.BytesIO(files[int(name)])


def test_an_image_of_the_wanted_size_is_unchanged() -> None:
    image = picture(0, (8, 8))
    pixels = decoded(encoded(image))
    assert pixels.shape == (3, 8, 8)
    assert np.array_equal(pixels, np.asarray(image).transpose(2, 0, 1))


def test_the_central_square_is_cut_and_resized() -> None:
    image = picture(0, (21, 16))
    square = image.crop((2, 0, 18, 16)).resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(decoded(encoded(image)), np.asarray(square).transpose(2, 0, 1))
    tall = image.transpose(Image.Transpose.TRANSPOSE)
    square = tall.crop((0, 2, 16, 18)).resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(decoded(encoded(tall)), np.asarray(square).transpose(2, 0, 1))


def test_a_small_image_is_enlarged() -> None:
    assert (decoded(encoded(Image.new("RGB", (3, 5), (10, 20, 30)))) == np.array([10, 20, 30])[:, None, None]).all()


def test_jpeg_and_other_formats() -> None:
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM"):
        difference = decoded(encoded(image, kind)).astype(int) - np.array([200, 100, 50])[:, None, None]
        assert np.abs(difference).max() <= 3, kind


def test_palette_and_its_transparent_colour() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 0)
    pixels = decoded(encoded(image))
    assert pixels[:, 0, 0].tolist() == [255, 0, 0]
    assert pixels[:, 5, 5].tolist() == [0, 0, 255]
    assert decoded(encoded(image, transparency=0))[:, 0, 0].tolist() == [255, 255, 255]


def test_transparent_pixels_lie_on_white() -> None:
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert np.abs(decoded(encoded(half)).astype(int) - 127).max() <= 1
    clear = Image.new("LA", (8, 8), (7, 0))
    assert (decoded(encoded(clear), GREY) == 255).all()


def test_sixteen_bits_become_eight() -> None:
    levels = np.array([[0, 257, 32_896, 65_535]] * 4, np.uint16)
    assert decoded(encoded(Image.fromarray(levels)), GREY, 4)[0, 0].tolist() == [0, 1, 128, 255]


def test_grey_cmyk_and_bilevel_convert() -> None:
    assert (decoded(encoded(Image.new("L", (8, 8), 77))) == 77).all()
    assert (decoded(encoded(Image.new("1", (8, 8), 1)), GREY) == 255).all()
    assert (decoded(encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")) >= 253).all()


def test_orientation_is_applied() -> None:
    image = Image.new("RGB", (8, 8), "black")
    image.paste("white", (0, 0, 8, 4))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    pixels = decoded(encoded(image, "PNG", exif=exif))
    assert (pixels[:, :, 4:] == 255).all()
    assert (pixels[:, :, :4] == 0).all()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_damaged_files_are_told_from_good_ones() -> None:
    good = encoded(picture(0, (40, 40)), "JPEG")
    side = int(MAX_PIXELS**0.5) + 1
    files = [
        good,
        good[: len(good) // 2],
        b"",
        b"not an image",
        png_header(side, side),
        png_header(60_000, 60_000),
        encoded(Image.new("F", (8, 8)), "TIFF"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n",
        good,
    ]
    names, open_file = opener(*files)
    images, faults = decode_files(names, open_file, Geometry(3, 16))
    assert sorted(faults) == [1, 2, 3, 4, 5, 6, 7]
    assert "truncated" in faults[1]
    assert faults[2] == faults[3] == faults[7] == "not an image"
    assert "pixels" in faults[4]
    assert "decompression bomb" in faults[5]
    assert "floating-point" in faults[6]
    assert np.array_equal(images[0], images[8])
    assert images[0].any()


def test_a_file_that_cannot_be_opened_is_one_that_does_not_decode() -> None:
    def open_file(name: str) -> BinaryIO:
        raise PermissionError(name)

    assert decode_files(["a"], open_file, Geometry(3, 8))[1] == {0: "a"}
    with pytest.raises(DataError, match=r"none of the images in 'here' can be read, for example a"):
        find_geometry("here", ["a"], open_file)


def test_order_is_kept_over_many_threads() -> None:
    names, open_file = opener(*(encoded(Image.new("L", (8, 8), n)) for n in range(200)))
    images, faults = decode_files(names, open_file, Geometry(1, 8))
    assert not faults
    assert images[:, 0, 0, 0].tolist() == list(range(200))


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ([(10, 20)], 10),
        ([(10, 20), (30, 14), (99, 12)], 12),
        ([(3, 100)], 8),
        ([(33, 33)], 32),
        ([(37, 50)], 40),
        ([(640, 480)], 224),
    ],
)
def test_size_is_the_median_of_the_shorter_sides(sizes: list[tuple[int, int]], size: int) -> None:
    names, open_file = opener(*(encoded(Image.new("RGB", pair)) for pair in sizes))
    assert find_geometry("here", names, open_file) == Geometry(3, size)


def test_one_channel_only_where_all_are_grey() -> None:
    grey = [encoded(Image.new(mode, (9, 9))) for mode in ("L", "1", "LA", "I;16")]
    names, open_file = opener(*grey)
    assert find_geometry("here", names, open_file) == Geometry(1, 9)
    names, open_file = opener(*grey, encoded(Image.new("RGB", (9, 9))))
    assert find_geometry("here", names, open_file) == Geometry(3, 9)
