"""Damages data in arrays: in the bytes of the file, of one array in it, and array by array."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import NDArray

from .damage import INSERTED, damaged_bytes

Array = NDArray[Any]
COUNT = 60
SOUND: Mapping[str, Array] = {
    "images": np.arange(COUNT * 64, dtype=np.uint8).reshape(COUNT, 1, 8, 8),
    "labels": np.arange(COUNT) % 2,
    "validation_images": np.full((10, 1, 8, 8), 7, np.uint8),
    "validation_labels": np.arange(10) % 2,
    "classes": np.array(["cat", "dog"]),
    "shift": np.array(0.1),
    "mirror": np.array(True),
}
TYPES = ("u1", "i1", "u8", "f2", "f8", "c16", "?", "U3", "S2", "M8[s]", "O", "u1,f4", ">i4")
SHAPES = ((), (0,), (1,), (-1,), (0, 1, 8, 8), (1, -1), (-1, 8), (2, -1, 8, 8), (-1, 1, 4, 16), (1,) * 20)
NUMBERS = (-1, 2, 255, 2**31, 2**62, 2**63 - 1, -(2**63))
NAMES = (
    "",
    "..",
    "../x",
    "/etc/passwd",
    "images",
    "labels",
    "test_images",
    "test_labels",
    "classes",
    "shift",
    "é",
    "a" * 300,
)
WORDS = ("", "..", "a\0b", "\u202e", "<script>", "[bold]", "a\nb", "a" * 20_000)


@st.composite
def damaged_arrays(draw: DrawFn) -> bytes:
    """An .npz file that is damaged in one to three ways."""
    arrays = dict(SOUND)
    if draw(st.integers(0, 4)) == 0:
        return draw(damaged_bytes(_archive({name: _stored(array) for name, array in arrays.items()})))
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(arrays)))
        match draw(st.sampled_from(("type", "shape", "value", "value", "remove", "rename", "words", "swap"))):
            case "type":
                arrays[name] = np.resize(np.zeros(1, draw(st.sampled_from(TYPES))), arrays[name].shape)
            case "shape":
                arrays[name] = _reshaped(arrays[name], draw(st.sampled_from(SHAPES)))
            case "value" if arrays[name].dtype.kind in "iu" and arrays[name].size:
                arrays[name] = arrays[name].astype(np.int64)
                arrays[name].flat[draw(st.integers(0, arrays[name].size - 1))] = draw(st.sampled_from(NUMBERS))
            case "value":
                arrays[name] = np.array(draw(st.floats()))
            case "remove" if len(arrays) > 1:
                del arrays[name]
            case "rename":
                arrays[draw(st.sampled_from(NAMES))] = arrays.pop(name)
            case "words":
                arrays["classes"] = np.array(draw(st.lists(st.sampled_from(WORDS), max_size=3)), str)
            case _:
                arrays[name] = arrays[draw(st.sampled_from(sorted(arrays)))]
    members = {name: _stored(array) for name, array in arrays.items()}
    if draw(st.integers(0, 2)) == 0:
        name = draw(st.sampled_from(sorted(members)))
        members[name] = draw(
            st.one_of(damaged_bytes(members[name]), st.sampled_from(INSERTED), _promising(members[name]))
        )
    return _archive(members)


@st.composite
def _promising(draw: DrawFn, content: bytes) -> bytes:
    """An array whose header tells of more, or of fewer, numbers than there are."""
    header, shape = io.BytesIO(), draw(st.sampled_from(((2**40,), (2**31, 2**31), (0,), (3, 1, 8, 8), (-1,), (2**63,))))
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue() + content[-64:]


def _reshaped(array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return array.reshape(shape)
    except ValueError:
        return np.zeros([max(side, 1) if side else 0 for side in shape], array.dtype)


def _stored(array: Array) -> bytes:
    """As numpy writes it, also what it has to pickle."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def _archive(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()
