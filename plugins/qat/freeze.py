"""The trained network with integers for weights and biases: it computes, and exports as, what training simulated."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from nas_edge import InvalidCandidate

from ..parametrized import chain_of
from .insert import insert_after
from .norms import by_channel, folding
from .operators import Dequantize, QuantizeDequantize
from .placement import Layer, Network
from .quantizers import SMALLEST_STEP, ActivationQuantizer, WeightQuantizer
from .tracing import trace

MOST_BIAS = 2.0**30  # codes of a 32-bit bias, with room for what is added to it


class FrozenQuantizer(nn.Module):
    """Rounds an activation to the grid that was trained."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, trained: ActivationQuantizer) -> None:
        super().__init__()
        self.register_buffer("scale", trained.log2_step.detach().exp2())
        self.register_buffer("zero_point", trained.zero_point.to(torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        rounded: Tensor = QuantizeDequantize.apply(x, self.scale, self.zero_point)  # type: ignore[no-untyped-call]
        return rounded


class FrozenLayer(nn.Module):
    """A convolution or linear layer of integers: `weight` int8 `[out, ...]`, `bias` int32 `[out]` or None.

    With x the input's step and s the weight's, the step of the bias is `x * s`: that of the sums of products that an
    integer kernel adds it to (Jacob et al. 2018, equation 11). Training does not simulate this rounding, which is all
    that a frozen network differs by.
    """

    scale: Tensor
    bias_scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, input_scale: Tensor) -> None:
        super().__init__()
        scale = scale.clamp_min(SMALLEST_STEP)
        if bias is not None:  # where the weights are as nothing beside the bias, its codes would not fit
            scale = torch.maximum(scale, bias.abs() / (MOST_BIAS * input_scale))
        self.register_buffer("scale", scale)
        self.register_buffer("bias_scale", scale * input_scale)
        codes = (weight / by_channel(scale, weight)).round().to(torch.int8)
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.bias: nn.Parameter | None = None
        if bias is not None:
            self.bias = nn.Parameter((bias / self.bias_scale).round().to(torch.int32), requires_grad=False)

    def parameters_in_float(self) -> tuple[Tensor, Tensor | None]:
        """The values of weight and bias."""
        weight: Tensor = Dequantize.apply(self.weight, self.scale)  # type: ignore[no-untyped-call]
        if self.bias is None:
            return weight, None
        bias: Tensor = Dequantize.apply(self.bias, self.bias_scale)  # type: ignore[no-untyped-call]
        return weight, bias


class FrozenConv2d(FrozenLayer):
    def __init__(
        self, layer: nn.Conv2d, weight: Tensor, scale: Tensor, bias: Tensor | None, input_scale: Tensor
    ) -> None:
        super().__init__(weight, scale, bias, input_scale)
        self.stride, self.padding = layer.stride, layer.padding
        self.dilation, self.groups = layer.dilation, layer.groups

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, *self.parameters_in_float(), self.stride, self.padding, self.dilation, self.groups)


class FrozenLinear(FrozenLayer):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, *self.parameters_in_float())


@torch.no_grad()
def freeze(model: nn.Module, image: Tensor) -> nn.Module:
    """A copy with frozen layers and quantizers for those that were trained; the model itself where it has none.

    `image` is one, uint8 `[1, channels, height, width]`. Raises `InvalidCandidate` where another technique has made of
    the network what cannot be traced.
    """
    if not any(isinstance(m, ActivationQuantizer) for m in model.modules()):
        return model
    model = copy.deepcopy(model).cpu().eval()
    found = trace(model, (m for m in model.modules() if isinstance(m, ActivationQuantizer)))
    if found is None:
        raise InvalidCandidate("qat: torch.fx cannot trace the trained network; leave out what acts after qat")
    traced, _ = found
    network = Network(traced, image.float() / 255)
    _round_what_moved(network)
    for node in network.nodes:
        layer = network.layer(node)
        if layer is not None:
            _freeze_layer(network, node, layer)
    for node in network.nodes:
        module = network.module(node)
        if isinstance(module, ActivationQuantizer):
            traced.set_submodule(str(node.target), FrozenQuantizer(module))
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()


def _freeze_layer(network: Network, node: fx.Node, layer: Layer) -> None:
    """Replace a layer, and the batch normalisation that belongs to it."""
    quantizer = network.module(network.source(node.all_input_nodes[0]))
    rounded = _rounded_weight(layer)
    if rounded is None:
        return
    if not isinstance(quantizer, ActivationQuantizer):
        raise InvalidCandidate(f"qat: what {node.target} takes is not rounded any more; leave out what acts after qat")
    weight, step = rounded
    bias: Tensor | None = layer.bias
    norm = network.norm(node)
    if norm is not None:
        factor, shift = folding(norm[1])
        weight, step = weight * by_channel(factor, weight), step * factor.abs()
        bias = shift if bias is None else bias * factor + shift
        norm[0].replace_all_uses_with(node)
        network.traced.graph.erase_node(norm[0])
    values = (weight, step, bias, quantizer.log2_step.exp2())
    frozen = FrozenConv2d(layer, *values) if isinstance(layer, nn.Conv2d) else FrozenLinear(*values)
    network.traced.set_submodule(str(node.target), frozen)


def _rounded_weight(layer: Layer) -> tuple[Tensor, Tensor] | None:
    """A layer's weight and the steps of its grid `[out]`; None where it is not rounded."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    chain = chain_of(layer)
    weight: Tensor = chain.original
    step: Tensor | None = None
    for each in chain:
        if isinstance(each, WeightQuantizer):
            step = each.log2_steps(weight).exp2()
        weight = each(weight)
    return None if step is None else (weight, step)


def _round_what_moved(network: Network) -> None:
    """Round again what was moved: nothing changes, but integer kernels need integers on both sides of each operator."""
    wanted: set[fx.Node] = set()
    for node in reversed(network.nodes):
        read = any(u in wanted or network.layer(u) is not None or network.is_following(u) for u in node.users)
        if not read or not network.is_moving(node):
            continue
        wanted.add(node)
        quantizer = network.source(node)
        exported = network.is_tensor(node) and not network.is_silent(node)
        if exported and isinstance(network.module(quantizer), ActivationQuantizer):
            insert_after(node, str(quantizer.target))
