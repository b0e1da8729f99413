"""Whether a network, a graph or data were changed by the one they were lent to."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import nn

from nas_edge.contracts import ImageData
from nas_edge.testing.checks import require

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
PLAIN = (int, float, str, type(None))
SPLITS = ("train", "validation", "test")


@contextmanager
def touched(what: str, *subjects: Any) -> Iterator[None]:
    """Fail the check where the code within changes one of these networks, graphs or data."""
    before = [(copy.deepcopy(subject), repr(subject)) for subject in subjects]
    yield
    for (old, text), now in zip(before, subjects, strict=True):
        changed = "its modules" if isinstance(now, nn.Module) and text != repr(now) else difference(old, now)
        require(
            changed is None,
            f"{what} changed what it was given: {changed}; work on a copy: copy.deepcopy(model), or for a graph "
            "made.CopyFrom(model) on a new onnx.ModelProto()",
        )


def difference(before: Any, now: Any) -> str | None:
    """What differs between a network, of the same modules, a graph or data and their copy; None for nothing."""
    if isinstance(now, onnx.ModelProto):
        return None if before.SerializeToString() == now.SerializeToString() else "the graph"
    if isinstance(now, ImageData):
        return next((f"the images of data.{name}" for name in SPLITS if not _same(before, now, name)), None)
    if not isinstance(now, nn.Module):
        return None
    for (name, old), new in zip(before.named_modules(), now.modules(), strict=True):
        if old.training != new.training:
            return f"the mode (training or not) of {name or 'the network'}"
        if any(len(getattr(old, kind)) != len(getattr(new, kind)) for kind in HOOKS):
            return f"the hooks of {name or 'the network'}"
        if _plain_attributes(old) != _plain_attributes(new):
            return f"the attributes of {name or 'the network'}"
    for (name, weight), (other, found) in zip(before.named_parameters(), now.named_parameters(), strict=True):
        if name != other or not torch.equal(weight, found):
            return f"the parameter {name}"
        if weight.requires_grad != found.requires_grad or found.grad is not None:
            return f"the gradient of {name}"
    for (name, buffer), (other, state) in zip(before.named_buffers(), now.named_buffers(), strict=True):
        if name != other or not torch.equal(buffer, state):
            return f"the buffer {name}"
    return None


def _same(before: ImageData, now: ImageData, split: str) -> bool:
    old, new = getattr(before, split), getattr(now, split)
    return torch.equal(old.images, new.images) and torch.equal(old.labels, new.labels)


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    """The numbers and words that a module keeps, such as how many heads it has."""
    return {name: value for name, value in vars(module).items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    return isinstance(value, PLAIN) or (isinstance(value, tuple | list) and all(map(_is_plain, value)))
