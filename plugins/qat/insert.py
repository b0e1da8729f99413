"""Puts fake quantizers into a network: parametrizations of its weights, and layers after its activations."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from nas_edge import InvalidCandidate

from ..parametrized import attach
from .norms import fold_norms
from .placement import CUTS, Network, Plan, plan
from .quantizers import ActivationQuantizer, WeightQuantizer
from .tracing import trace

if TYPE_CHECKING:
    from . import QatConfig

FOLDER = "activation_quantizers"
SAMPLES = 1 << 12  # values of a tensor and batch that its range is fitted to
BATCH = 32
SHARES = [1 - 0.025 * i for i in range(21)]


@torch.no_grad()
def insert_quantizers(
    model: nn.Module, config: QatConfig, images: Tensor, count: int, seed: int
) -> tuple[nn.Module, str]:
    """A copy with fake quantizers, and what they round in words.

    Ranges are fitted to `count` of the images, uint8 `[n, channels, height, width]`, drawn by seed. Raises
    `InvalidCandidate` where the network cannot be traced, or has no convolution or linear layer to quantize.
    """
    model = copy.deepcopy(model)
    modes = {module: module.training for module in model.modules()}
    found = trace(model)
    if found is None:
        raise InvalidCandidate("qat: torch.fx cannot trace the network, whose path depends on values; leave qat out")
    traced, opaque = found
    traced.eval()
    device = next((p.device for p in traced.parameters()), torch.device("cpu"))
    batches = [batch.to(device) for batch in _batches(images, count, seed)]
    network = Network(traced, batches[0][:1])
    if config.batch_norm == "folded":
        network = Network(fold_norms(network), batches[0][:1])
    places = plan(network)
    if not places.layers:
        raise InvalidCandidate("qat: the network has no convolution or linear layer to quantize; leave qat out")
    ranges = _Ranges(traced, places.tensors).of(batches)
    learned = config.steps == "learned"
    for layer in places.layers:
        bits = config.edge_bits if layer in (places.layers[0], places.layers[-1]) else config.weight_bits
        attach(layer, WeightQuantizer(layer.weight.detach(), bits, learned=learned))
    for index, node in enumerate(places.tensors):
        quantizer = ActivationQuantizer(*ranges[node], learned=learned, limit=CUTS.get(network.kind(node)))
        traced.add_submodule(f"{FOLDER}.{index}", quantizer)
        insert_after(node, f"{FOLDER}.{index}")
    traced.to(device)
    traced.recompile()
    for module in traced.modules():
        module.training = modes.get(module, model.training)
    return traced, _report(places, config, opaque)


def insert_after(node: fx.Node, name: str) -> None:
    """Call a module of the network on what a node gives, for all that read it."""
    with node.graph.inserting_after(node):
        call = node.graph.call_module(name, (node,))
    node.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)


def _batches(images: Tensor, count: int, seed: int) -> Iterator[Tensor]:
    """`count` of the images, drawn by seed, as float32 batches in 0..1."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
    for chosen in order.split(BATCH):
        yield images[chosen].float() / 255


class _Ranges(fx.Interpreter):
    """Runs a network, and finds for some of its tensors the range whose 8-bit grid has the least squared error."""

    def __init__(self, traced: fx.GraphModule, tensors: list[fx.Node]) -> None:
        super().__init__(traced)
        self._tensors = set(tensors)
        self._extremes: dict[fx.Node, list[Tensor]] = {node: [] for node in tensors}
        self._samples: dict[fx.Node, list[Tensor]] = {node: [] for node in tensors}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self._tensors:
            values = result.flatten()
            self._extremes[n] += values.aminmax()
            self._samples[n].append(values[:: values.numel() // SAMPLES | 1].clone())
        return result

    def of(self, batches: list[Tensor]) -> dict[fx.Node, tuple[float, float]]:
        for batch in batches:
            self.run(batch)
        return {
            node: fitted_range(torch.cat(self._samples[node]), *torch.stack(seen).aminmax())
            for node, seen in self._extremes.items()
        }


def fitted_range(samples: Tensor, lowest: Tensor, highest: Tensor) -> tuple[float, float]:
    """The range of the least squared error among 0.5 to 1 times lowest (or 0) to highest (or 0)."""
    lowest, highest = lowest.clamp(max=0), highest.clamp(min=0)

    def error(share: float) -> float:
        step = ((highest - lowest) * share / 255).clamp_min(1e-12)
        zero = (-lowest * share / step).round()
        rounded = (((samples / step).round() + zero).clamp(0, 255) - zero) * step
        return float((rounded - samples).square().sum())

    best = min(SHARES, key=error)  # of equal ones the widest
    return float(lowest) * best, float(highest) * best


def _report(places: Plan, config: QatConfig, opaque: list[str]) -> str:
    report = (
        f"rounds the weights of {len(places.layers)} layers to {config.weight_bits} bits "
        f"({config.edge_bits} in the first and last) and {len(places.tensors)} activations to 8 bits"
    )
    if places.floating:
        report += f"; in float: {', '.join(places.floating)}"
    return f"{report}; torch.fx cannot trace, so in float: {', '.join(opaque)}" if opaque else report
