"""Grids of weights: symmetric, at 2 to 8 bits, a scale a channel, a tensor or a block; 4-bit values stored packed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from .graphs import Array, initializers

Integers = npt.NDArray[np.int8]
Nibbles = npt.NDArray[np.uint8]


def grid_scales(weight: Array, bits: int, axis: int | None) -> Array:
    """The scales of a symmetric grid, max |w| / (2^(bits - 1) - 1): `[channels]`, or a scalar where `axis` is None.

    Krishnamoorthi (2018), section 2.2. A channel of zeros gets 1.
    """
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others)
    top = 2 ** (bits - 1) - 1
    scales: Array = np.where(largest > 0, largest / top, 1).astype(np.float32)
    return scales


def to_grid(weight: Array, scales: Array, bits: int, axis: int | None) -> Integers:
    """The nearest points of the grid as integers, round(w / scale), the weight's shape."""
    top = 2 ** (bits - 1) - 1
    if axis is not None:
        scales = scales.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
    values: Integers = np.clip(np.rint(weight / scales), -top, top).astype(np.int8)
    return values


@dataclass(frozen=True)
class Blocks:
    """A matrix in 4-bit blocks: w = scale (value - zero), the row's tail filled up with zeros.

    `values` are 0..15, `[rows, blocks, size]`; `scales` and `zeros` are `[rows, blocks]`.
    """

    values: Nibbles
    scales: Array
    zeros: Nibbles


def in_blocks(weight: Array, size: int) -> Blocks:
    """The rows of a matrix in blocks of `size`: from the lowest to the highest of a block's values and 0 in 15 steps.

    No value is off by more than half a step.
    """
    rows, columns = weight.shape
    padded = np.zeros((rows, -(-columns // size) * size), np.float32)
    padded[:, :columns] = weight
    parts = padded.reshape(rows, -1, size)
    low = np.minimum(parts.min(-1), 0)
    steps = (np.maximum(parts.max(-1), 0) - low) / 15
    scales = np.where(steps > 0, steps, 1).astype(np.float32)
    zeros = np.rint(-low / scales)
    values = np.clip(np.rint(parts / scales[..., None]) + zeros[..., None], 0, 15)
    return Blocks(values.astype(np.uint8), scales, zeros.astype(np.uint8))


def packed(values: npt.NDArray[Any]) -> Nibbles:
    """4-bit integers, of either sign, two in a byte along the last axis, the earlier one low; an odd one gets a 0."""
    low = values[..., ::2].view(np.uint8) & 15
    high = np.zeros_like(low)
    high[..., : values.shape[-1] // 2] = values[..., 1::2].view(np.uint8) & 15
    return np.asarray(low | high << 4, np.uint8)


def packed_int4(name: str, values: npt.NDArray[Any]) -> onnx.TensorProto:
    """A constant of 4-bit integers, signed as the values are."""
    kind = TensorProto.UINT4 if values.dtype == np.uint8 else TensorProto.INT4
    return helper.make_tensor(name, kind, values.shape, packed(values.reshape(-1)).tobytes(), raw=True)


def store_packed(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Store these 8-bit constants in 4 bits, in place, each behind a Cast that makes it 8-bit again.

    ONNX Runtime computes it once, on loading: what follows sees 8-bit constants, and is fused as before.
    """
    constants = initializers(graph)
    for name in sorted(names):
        values = onnx.numpy_helper.to_array(constants[name])
        graph.initializer.remove(constants[name])
        graph.initializer.append(packed_int4(f"{name}.int4", values))
        cast = helper.make_node("Cast", [f"{name}.int4"], [name], f"{name}.unpack", to=TensorProto.INT8)
        graph.node.insert(0, cast)
