"""No parameter of the mobilenet space is dead: each value of each gives another network."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import nn

from nas_edge_spaces.mobilenet import architecture as arch

from .networks import SPACE, build, images, params, sample, stage

GLOBAL: dict[str, list[Any]] = {
    "input_scale": arch.INPUT_SCALES.values(),
    "width_multiplier": arch.WIDTH_MULTIPLIERS.values(),
    "activation": list(arch.ACTIVATIONS),
}
STEM: dict[str, list[Any]] = {"width": arch.STEM_WIDTHS.values(), "kernel": arch.STEM_KERNELS.values()}
PER_STAGE: dict[str, list[Any]] = {
    "depth": arch.DEPTHS.values(),
    "block": list(arch.BLOCKS),
    "kernel": arch.KERNELS.values(),
    "attention": list(arch.ATTENTIONS),
    "stride": arch.STRIDES.values(),
    "expansion": arch.EXPANSIONS.values(),
}


def _variants(base: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """For each parameter that is active in `base`: its name, and the networks in which it alone takes each value."""
    for name, values in GLOBAL.items():
        yield name, [base | {name: value} for value in values]
    for name, values in STEM.items():
        yield f"stem.{name}", [base | {"stem": base["stem"] | {name: value}} for value in values]
    counts = arch.STAGE_COUNTS.values()
    longest = base["stages"] + [stage(index) for index in range(len(base["stages"]), counts[-1])]
    yield "stages", [base | {"stages": longest[:count]} for count in counts]
    for index, own in enumerate(base["stages"]):
        for name, values in (PER_STAGE | {"width": arch.STAGE_WIDTHS[index].values()}).items():
            if name in own:
                yield f"stage{index + 1}.{name}", [_with_stage(base, index, name, value) for value in values]


def _with_stage(base: dict[str, Any], index: int, name: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(base)
    own = changed["stages"][index]
    own[name] = value
    if name == "block":  # an expansion belongs to the inverted residual alone
        own.pop("expansion", None)
        if value == "inverted":
            own["expansion"] = 2
    return changed


def _all_differ(variants: list[dict[str, Any]], native: int) -> bool:
    """By the input size, the shapes of the weights, or, with the same weights, by what they compute."""
    sizes = [SPACE.input_size(variant, native) for variant in variants]
    models = [build(variant, 1, size) for variant, size in zip(variants, sizes, strict=True)]
    pairs = combinations(zip(sizes, models, strict=True), 2)
    return all(a != b or _shapes(f) != _shapes(g) or _compute_differently(f, g, a) for (a, f), (b, g) in pairs)


def _shapes(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in model.state_dict().items()]


def _compute_differently(one: nn.Module, other: nn.Module, size: int) -> bool:
    """With the same weights, normalised as in training, and activations so large that relu6 has something to cut."""
    for module in one.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 8.0)
    other.load_state_dict(one.state_dict())
    x = images(4, 1, size)
    with torch.no_grad():
        return not torch.allclose(one.train()(x), other.train()(x), rtol=1e-3)


BASES = [params(0), params(-1), *sample(2, seed=11)]


@pytest.mark.parametrize("base", BASES, ids=["min", "max", "random0", "random1"])
def test_each_parameter_changes_the_network(base: dict[str, Any]) -> None:
    names = []
    for name, variants in _variants(base):
        assert _all_differ(variants, native=8), f"{name} is dead in {base}"
        names.append(name)
    assert len(names) == len(set(names)) == 6 + sum(len(own) for own in base["stages"])


@pytest.mark.parametrize("native", [28, 64, 224])
def test_strides_and_activations_are_alive_on_larger_images(native: int) -> None:
    base = params(0, attention="self", depth=1)
    for name, variants in _variants(base):
        if name.endswith(("stride", "activation", "input_scale")):
            assert _all_differ(variants, native), name


def test_the_comparison_notices_a_dead_parameter() -> None:
    assert not _all_differ([params(0), params(0)], native=8)
