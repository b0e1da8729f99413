"""Which layers are coded, and how their codes get from training to the ONNX file."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import parametrize

from nas_edge import Context, InvalidCandidate

from ..parametrized import attach, attached, bake, chain_of
from .codes import Binary, Codebook, Logarithmic, Ternary, TrainedTernary, Uniform
from .kmeans import ITERATIONS, kmeans
from .packing import densest
from .straight_through import WeightCode

if TYPE_CHECKING:
    from . import WeightCodesConfig

Layer = nn.Conv2d | nn.Linear
FILE_NAME = "weight_codes.npz"
WEIGHT_BYTES = 160  # of the operators and the shape that make one weight
STREAM_BYTES = 500  # of those that unpack the codes of all weights with one number of levels
INT8 = "int8"


@dataclass(frozen=True)
class CodedLayer:
    """The codes of one layer: its weight `[out, ...]` is `units[o] * levels[index[o, ...]]`, in float32."""

    name: str
    index: npt.NDArray[np.uint8]
    levels: npt.NDArray[np.float32]
    units: npt.NDArray[np.float32]

    @property
    def weight(self) -> npt.NDArray[np.float32]:
        shape = (-1, *[1] * (self.index.ndim - 1))
        value: npt.NDArray[np.float32] = self.units.reshape(shape) * self.levels[self.index]
        return value


def code_layers(model: nn.Module, config: WeightCodesConfig, context: Context) -> tuple[nn.Module, str]:
    """A copy whose layers compute their weights from codes, and what was done in words.

    Raises `InvalidCandidate` where no layer is left to code.
    """
    model = copy.deepcopy(model)
    used = layers_in_order(model, context.data.train.images[:1].float() / 255)
    done: dict[str, list[tuple[str, Layer]]] = {}
    for place, (name, layer) in enumerate(used):
        kind = _wanted(layer, place in (0, len(used) - 1), config)
        if kind != "float" and not _pays(layer, kind, config):
            kind = "float, for codes would not be smaller"
        elif kind != "float":
            code = _make_code(layer, kind, config, context)
            attach(layer, code.requires_grad_(_trains(layer)))
        done.setdefault(kind, []).append((name, layer))
    if config.code not in done:
        raise InvalidCandidate(
            f"weight_codes: code={config.code!r} finds no layer to act on; use ends='coded' or depthwise='coded', "
            "or leave weight_codes out"
        )
    called = {name for name, _ in used}
    unused = [(n, m) for n, m in model.named_modules() if isinstance(m, Layer) and n not in called]
    if unused:
        done["float, for they are never called"] = unused
    return model, _report(done, config)


def layers_in_order(model: nn.Module, images: torch.Tensor) -> list[tuple[str, Layer]]:
    """The convolutions and linear layers that a forward pass uses, in the order of their first use."""
    names = {name for name, module in model.named_modules() if isinstance(module, Layer)}
    probe = copy.deepcopy(model).eval()
    order: dict[str, None] = {}
    for name in names:
        probe.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: order.setdefault(name))
    with torch.no_grad():
        probe(images.to(next((p.device for p in model.parameters()), torch.device("cpu"))))
    found = ((name, model.get_submodule(name)) for name in order)
    return [(name, layer) for name, layer in found if isinstance(layer, Layer)]


def _wanted(layer: Layer, at_end: bool, config: WeightCodesConfig) -> str:
    """What a layer is to be: coded as the config says, "int8" or "float"."""
    choice = "coded"
    if at_end:
        choice = config.resolved_ends
    elif isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1:
        choice = config.depthwise
    return config.code if choice == "coded" else choice


def _pays(layer: Layer, wanted: str, config: WeightCodesConfig) -> bool:
    """Whether the codes, their levels and the operators that unpack them take less of the file than float32 does."""
    weights, levels = layer.weight.numel(), 255 if wanted == INT8 else config.level_count
    packed = densest(levels).size_bytes(weights) + 4 * layer.weight.shape[0] + WEIGHT_BYTES
    if wanted in ("codebook", "trained_ternary"):
        packed += 4 * levels
    return packed < 4 * weights


def _make_code(layer: Layer, wanted: str, config: WeightCodesConfig, context: Context) -> WeightCode:
    weight, bits = layer.weight.detach(), config.resolved_bits
    keeps_zeros = bool((weight == 0).any()) or parametrize.is_parametrized(layer, "weight")
    per_channel = config.granularity == "channel"
    if wanted == INT8:
        return Uniform(weight, 8, per_channel)
    if wanted == "uniform":
        return Uniform(weight, bits, per_channel)
    if wanted == "logarithmic":
        return Logarithmic(weight, bits, per_channel)
    if wanted == "ternary":
        return Ternary(weight, per_channel)
    if wanted == "trained_ternary":
        return TrainedTernary(weight, per_channel)
    if wanted == "binary":
        return Binary(weight, per_channel, keeps_zeros)
    centroids = functools.partial(
        kmeans,
        count=2**bits - keeps_zeros,
        initialisation=config.initialisation,
        seed=context.seed,
        iterations=ITERATIONS if context.trained else 1,
    )
    return Codebook(weight, centroids, per_channel, keeps_zeros, config.assignments == "fixed")


def _trains(layer: Layer) -> bool:
    """Whether the weight, or what it is computed from, is trained."""
    if parametrize.is_parametrized(layer, "weight"):
        return any(p.requires_grad for p in chain_of(layer).parameters())
    return layer.weight.requires_grad


def _report(done: dict[str, list[tuple[str, Layer]]], config: WeightCodesConfig) -> str:
    coded = done.pop(config.code)
    weights = sum(layer.weight.numel() for _, layer in coded)
    bits = f" at {config.resolved_bits} bits" if config.takes_bits else ""
    parts = [f"{config.code} codes{bits} for {len(coded)} layers ({weights:,} weights)"]
    for kind, layers in done.items():
        more = f" and {len(layers) - 4} more" if len(layers) > 4 else ""
        parts.append(f"{kind}: {', '.join(name for name, _ in layers[:4])}{more}")
    return f"{'; '.join(parts)}; the first and the last layer are to be {config.resolved_ends}"


def bake_codes(model: nn.Module, folder: Path) -> nn.Module:
    """A copy with plain layers that hold the coded weights; the codes are kept in the folder for the ONNX file."""
    model = copy.deepcopy(model)
    layers = []
    for name, layer, code in attached(model, WeightCode):
        assert isinstance(code, WeightCode)
        original = chain_of(layer).original
        codes = code.encode(original)
        units = codes.units.detach().flatten().expand(len(original)).cpu().numpy()
        index = codes.index.cpu().numpy().astype(np.uint8)
        layers.append(without_unused(CodedLayer(name, index, codes.levels.detach().cpu().numpy(), units)))
    bake(model, WeightCode)
    save_codes(layers, folder)
    return model


def without_unused(layer: CodedLayer) -> CodedLayer:
    """Without the levels that no weight has, where the file is smaller for it: they take a stream of their own."""
    used, index = np.unique(layer.index, return_inverse=True)
    before, after = (densest(count).size_bytes(index.size) for count in (len(layer.levels), len(used)))
    if before - after < STREAM_BYTES + used.size * layer.levels.itemsize:
        return layer
    return CodedLayer(layer.name, index.reshape(layer.index.shape).astype(np.uint8), layer.levels[used], layer.units)


def save_codes(layers: list[CodedLayer], folder: Path) -> None:
    arrays: dict[str, npt.NDArray[np.generic]] = {"names": np.array([layer.name for layer in layers], dtype=np.str_)}
    for place, layer in enumerate(layers):
        arrays |= {f"{place}.index": layer.index, f"{place}.levels": layer.levels, f"{place}.units": layer.units}
    np.savez(folder / FILE_NAME, **arrays)  # type: ignore[arg-type]


def load_codes(folder: Path) -> list[CodedLayer]:
    """What `save_codes` wrote; nothing where it did not."""
    path = folder / FILE_NAME
    if not path.exists():
        return []
    with np.load(path, allow_pickle=False) as stored:
        return [
            CodedLayer(str(name), *(stored[f"{place}.{part}"] for part in ("index", "levels", "units")))
            for place, name in enumerate(stored["names"])
        ]
