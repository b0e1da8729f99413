"""Deep mutual learning: a student and its peers are trained together and teach each other."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas_edge import Objective

from .losses import as_float
from .softened import device_of, softened_divergence


class MutualLearning(Objective):
    """Deep mutual learning (Zhang, Xiang, Hospedales, Lu 2018, section 3) of a student with `count` peers.

    Each of the K = `count` + 1 networks k minimises its own cross entropy plus `weight` times the mean over the others
    l of `T^2 * KL(p_l || p_k)`, p the softmax of logits `[batch, classes]` over the temperature T; what another
    says is taken as given in that step. The loss here is the student's share and all of the peers': the peers'
    parameters are trained along by whoever trains the student, and no gradient passes from one network to another.

    A peer has the student's architecture, or the one given. It starts untrained; so does the student unless a technique
    changed its structure after a first training.
    """

    def __init__(
        self, count: int, architecture: nn.Module | None, *, temperature: float, weight: float, seed: int
    ) -> None:
        self.count = count
        self.architecture = architecture
        self.temperature = temperature
        self.weight = weight
        self.seed = seed
        self.peers: Sequence[nn.Module] = ()

    def prepare(self, model: nn.Module) -> None:
        """Make the peers, on the student's device."""
        architecture = model if self.architecture is None else self.architecture
        peers = (untrained(architecture, self.seed + number) for number in range(1, self.count + 1))
        self.peers = [peer.to(device_of(model)).train() for peer in peers]

    def parameters(self) -> Iterable[nn.Parameter]:
        return [parameter for peer in self.peers for parameter in peer.parameters() if parameter.requires_grad]

    def loss(self, inputs: Tensor, labels: Tensor, outputs: Tensor) -> Tensor:
        said = [as_float(outputs), *(as_float(peer(inputs)) for peer in self.peers)]
        own = torch.stack([F.cross_entropy(logits, labels) for logits in said[1:]]).sum()
        return own + self.weight * torch.stack([self._from_others(said, k) for k in range(len(said))]).sum()

    def _from_others(self, said: Sequence[Tensor], own: int) -> Tensor:
        others = [logits.detach() for k, logits in enumerate(said) if k != own]
        return torch.stack([softened_divergence(said[own], other, self.temperature) for other in others]).mean()


@torch.no_grad()
def untrained(architecture: nn.Module, seed: int) -> nn.Module:
    """A copy whose matrices and kernels are drawn anew, all of it to be trained.

    Each is normal with the standard deviation that it has: an architecture that chose how large its weights start
    keeps that. Scales and biases, which are no drawings, stay. Weights that are computed from others, by masks or
    codes, become plain ones, and running statistics start again.
    """
    model = copy.deepcopy(architecture)
    for module in list(model.modules()):
        _compute_no_weight(module)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            deviation = float(parameter.std(correction=0))
            parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator))
        parameter.requires_grad_(parameter.is_floating_point())
    return model


def _compute_no_weight(module: nn.Module) -> None:
    """Make the weights of a parametrized layer plain ones, in place.

    Torch's own way takes them from the layer's class, which copies share: the layers copied would lose theirs.
    """
    if not parametrize.is_parametrized(module):
        return
    computed = {name: getattr(module, name).clone() for name in module.parametrizations}  # type: ignore[union-attr]
    del module.parametrizations
    module.__class__ = parametrize.type_before_parametrizations(module)
    for name, value in computed.items():
        module.register_parameter(name, nn.Parameter(value))
