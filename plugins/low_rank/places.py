"""The layers of a model that can be factored, and the images that each is given."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import READ_BY_THEIR_OWNER, Layer, Pair, is_full_convolution, is_matrix, whole


@dataclass(frozen=True)
class Place:
    """A layer, the names that it has in its model, and the heights and widths of the images it is given there.

    A linear layer is given as many rows of one pixel as it computes outputs. `sizes` is empty for a layer that does
    not run.
    """

    names: tuple[str, ...]
    layer: Layer
    sizes: tuple[Pair, ...]

    def put(self, model: nn.Module, module: nn.Module) -> None:
        for name in self.names:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module)

    @property
    def likeness(self) -> Hashable:
        """Equal for layers that take equally long."""
        return (type(self.layer), whole(self.layer), self.layer.bias is not None, self.sizes)


def find_places(model: nn.Module, image: Sequence[int], convolutions: bool) -> list[Place]:
    """The linear and pointwise layers and, if wanted, the full `convolutions`; `image` is [channels, height, width]."""
    read = {id(child) for m in model.modules() if isinstance(m, READ_BY_THEIR_OWNER) for child in m.children()}
    names: dict[int, list[str]] = {}
    layers: dict[int, Layer] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        fits = is_matrix(module) or (convolutions and is_full_convolution(module))
        if fits and isinstance(module, nn.Linear | nn.Conv2d) and name and id(module) not in read:
            names.setdefault(id(module), []).append(name)
            layers[id(module)] = module
    sizes = _sizes(model, [found[0] for found in names.values()], image)
    return [Place(tuple(found), layers[key], tuple(sizes[found[0]])) for key, found in names.items()]


def alike(places: Iterable[Place]) -> list[list[Place]]:
    """The places in groups of layers that take equally long, in the order of the model."""
    groups: dict[Hashable, list[Place]] = {}
    for place in places:
        groups.setdefault(place.likeness, []).append(place)
    return list(groups.values())


def _sizes(model: nn.Module, names: Sequence[str], image: Sequence[int]) -> dict[str, list[Pair]]:
    """What each layer is given when the model, or rather a copy, runs on one image."""
    model = copy.deepcopy(model).eval()
    sizes: dict[str, list[Pair]] = {name: [] for name in names}

    def watch(name: str) -> None:
        def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            size = inputs[0].shape
            pixels = (inputs[0].numel() // size[-1], 1) if isinstance(layer, nn.Linear) else (size[-2], size[-1])
            sizes[name].append((int(pixels[0]), int(pixels[1])))

        model.get_submodule(name).register_forward_pre_hook(note)

    for name in names:
        watch(name)
    weight = next(model.parameters(), torch.empty(0))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own affair
        model(torch.full((1, *image), 0.5, device=weight.device, dtype=weight.dtype))
    return sizes
