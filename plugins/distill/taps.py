"""Where a network's feature maps and embeddings are, for any network, and hooks that keep them.

A probe runs one image through a copy of the network and looks at what each module takes and gives. Nothing is known
of the network's classes: modules are whatever it is made of, from single layers to whole stages.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas_edge import InvalidCandidate

from .losses import as_float

LAYERS = (nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class Tap:
    """What a module gives, or takes with `taken`; `shape` is that for one image, without the batch."""

    name: str
    shape: tuple[int, ...]
    taken: bool = False

    def __str__(self) -> str:
        return f"{self.name or 'the network'} [{'x'.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class _Call:
    """What one module took and gave in the probe's forward pass."""

    name: str
    took: tuple[int, ...]
    gave: tuple[int, ...]
    weights: bool
    layer: bool

    @property
    def side(self) -> int:
        """Of the map that it gave, in pixels; 0 where that is none."""
        return _side(self.gave)


def feature_maps(model: nn.Module, image: Tensor) -> list[Tap]:
    """The last map of each resolution, in the order they are computed. `image` is uint8 `[1, channels, side, side]`.

    A map is a square output `[channels, side, side]` of more than one pixel, from the first module with weights up to
    the classifier. What lies inside a module that takes one resolution and gives the next smaller one is that module's
    own business: of a stage that starts with a strided block, the expansion before the stride is not the last map of
    the resolution before, the stage before it is. Raises `InvalidCandidate` where there are none.
    """
    calls = _calls(model, image)
    last = max((i for i, call in enumerate(calls) if call.layer), default=0)
    calls = calls[next((i for i, call in enumerate(calls) if call.weights), 0) : last]
    times = Counter(call.name for call in calls)
    sides = sorted({call.side for call in calls if call.side > 1})
    smaller = dict(zip(sides[1:], sides, strict=False))
    steps = {c.name: _side(c.took) for c in calls if c.side and smaller.get(_side(c.took)) == c.side}
    found: dict[int, Tap] = {}
    for call in calls:
        inside = any(call.side == side and call.name.startswith(f"{name}.") for name, side in steps.items())
        if call.side > 1 and times[call.name] == 1 and not inside:
            found.pop(call.side, None)
            found[call.side] = Tap(call.name, call.gave)
    if not found:
        raise InvalidCandidate(
            "distill: method='features' and 'attention' need a network with feature maps, and it has none; "
            "use method='outputs' or 'relations'"
        )
    return list(found.values())


def embedding(model: nn.Module, image: Tensor) -> Tap:
    """What the last linear layer or convolution takes: the penultimate embedding.

    Raises `InvalidCandidate` where a network has neither.
    """
    layers = [call for call in _calls(model, image) if call.layer]
    if not layers:
        raise InvalidCandidate(
            "distill: method='relations' needs a network with a linear or convolutional classifier, and it has none; "
            "use method='outputs'"
        )
    return Tap(layers[-1].name, layers[-1].took, taken=True)


def from_the_deepest(student: Sequence[Tap], teacher: Sequence[Tap], depths: int) -> list[tuple[Tap, Tap]]:
    """The deepest map with the deepest, the one before with the one before, up to `depths` pairs, in their order.

    By depth and not by size: a student that runs at a lower resolution has the same stages on smaller maps.
    """
    count = min(depths, len(student), len(teacher))
    return list(zip(student[-count:], teacher[-count:], strict=True))


class Recorder:
    """Hooks that keep what the taps of a network gave in its latest forward pass, until `remove`."""

    def __init__(self, model: nn.Module, taps: Iterable[Tap]) -> None:
        self._taps = list(taps)
        self._kept: dict[Tap, Tensor] = {}
        self._handles = [_keep(model.get_submodule(tap.name), tap, self._kept) for tap in self._taps]

    def take(self) -> list[Tensor]:
        """The tensors of the taps, in float32 at least, and forget them."""
        kept = [as_float(self._kept[tap]) for tap in self._taps]
        self._kept.clear()
        return kept

    def remove(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()
        self._kept.clear()


def _keep(module: nn.Module, tap: Tap, kept: dict[Tap, Tensor]) -> Any:
    """A hook that is a plain function: a copy of the network shares it, and copies no tensor of a running graph."""

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        kept[tap] = inputs[0] if tap.taken else output

    return module.register_forward_hook(hook)


@torch.no_grad()
def _calls(model: nn.Module, image: Tensor) -> list[_Call]:
    """All calls of modules, in the order in which they end. On a copy: not even statistics of the network change."""
    model = copy.deepcopy(model).eval()
    calls: list[_Call] = []

    def watch(name: str, module: nn.Module) -> None:
        weights = next(module.parameters(), None) is not None

        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            took = inputs[0] if inputs else None
            calls.append(_Call(name, _shape(took), _shape(output), weights, isinstance(module, LAYERS)))

        module.register_forward_hook(hook)

    for name, module in model.named_modules():
        computes_weights = "parametrizations" in name.split(".")
        if not computes_weights and not isinstance(module, nn.modules.dropout._DropoutNd):
            watch(name, module)
    weight = next(model.parameters(), torch.empty(0))
    model(image.to(weight.device).float() / 255)
    return calls


def _shape(value: Any) -> tuple[int, ...]:
    """That of a tensor for one image, without the batch; () for anything else."""
    return tuple(value.shape[1:]) if isinstance(value, Tensor) else ()


def _side(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) == 3 and shape[1] == shape[2] else 0
