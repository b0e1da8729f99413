"""Whether a network or a graph was changed by the one it was lent to."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import nn

from nas_edge.testing.checks import require


@contextmanager
def touched(what: str, *subjects: Any) -> Iterator[None]:
    """Fail the check where the code within changes one of these networks or graphs."""
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
    """What differs between a network, of the same modules, or a graph and its copy; None for nothing."""
    if isinstance(now, onnx.ModelProto):
        return None if before.SerializeToString() == now.SerializeToString() else "the graph"
    if not isinstance(now, nn.Module):
        return None
    for (name, old), new in zip(before.named_modules(), now.modules(), strict=True):
        if old.training != new.training:
            return f"the mode (training or not) of {name or 'the network'}"
        if len(old._forward_hooks) != len(new._forward_hooks):
            return f"the hooks of {name or 'the network'}"
    for (name, weight), (other, found) in zip(before.named_parameters(), now.named_parameters(), strict=True):
        if name != other or not torch.equal(weight, found):
            return f"the parameter {name}"
        if weight.requires_grad != found.requires_grad or found.grad is not None:
            return f"the gradient of {name}"
    for (name, buffer), (other, state) in zip(before.named_buffers(), now.named_buffers(), strict=True):
        if name != other or not torch.equal(buffer, state):
            return f"the buffer {name}"
    return None
