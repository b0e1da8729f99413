"""Files of tensors that torch wrote, read without running any code in them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch


class BadWeights(ValueError):
    """A file that `torch.load(weights_only=True)` does not read."""


def read_weights(path: Path) -> Any:
    """What a file of tensors holds, on the CPU. Raises `BadWeights` saying why it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that are none of torch's: what they hold is said otherwise
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch's reader raise nearly anything
        text = " ".join(str(error).split())[:200]
        raise BadWeights(f"{type(error).__name__}: {text}" if text else type(error).__name__) from None
