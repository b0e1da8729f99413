"""Small integers in as few bytes as ONNX operators can unpack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LARGEST_WORD = 7  # bytes: the word fits a signed 64-bit integer
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Packing:
    """Words of `word_bytes` bytes, little-endian, each a number of `digits` digits to the base `levels`, lowest first.

    Four levels make 2 bits each, and 16 make 4; three make 1.6, for five digits to the base 3 fit a byte.
    """

    levels: int
    digits: int
    word_bytes: int

    @property
    def bits(self) -> float:
        """Per integer."""
        return 8 * self.word_bytes / self.digits

    def size_bytes(self, count: int) -> int:
        """Of `count` integers."""
        return -(-count // self.digits) * self.word_bytes

    def pack(self, values: npt.NDArray[np.integer]) -> Bytes:
        """`[words, word_bytes]` from integers `[n]` in 0..levels-1; the last word is filled up with zeros."""
        words = -(-len(values) // self.digits)
        digits = np.zeros(words * self.digits, dtype=np.int64)
        digits[: len(values)] = values
        numbers = digits.reshape(words, self.digits) @ self.levels ** np.arange(self.digits, dtype=np.int64)
        return numbers.astype("<i8").view(np.uint8).reshape(words, 8)[:, : self.word_bytes].copy()


def densest(levels: int) -> Packing:
    """The packing with the fewest bits for integers in 0..levels-1, and among such the one with the shortest words."""
    levels = max(levels, 2)
    return min((_filled(levels, size) for size in range(1, LARGEST_WORD + 1)), key=lambda p: (p.bits, p.word_bytes))


def _filled(levels: int, word_bytes: int) -> Packing:
    digits = 1
    while levels ** (digits + 1) <= 256**word_bytes:
        digits += 1
    return Packing(levels, digits, word_bytes)
