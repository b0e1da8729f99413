"""Trains all networks of a space at once: they share their weights.

Each step trains the largest network on the labels, and the smallest and some random ones on its softened outputs: the
sandwich rule and inplace distillation (Yu and Huang 2019, sections 3.1 and 3.2). A network inherits its weights by
cutting them out, and measures its batch norm's statistics anew (their section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_edge.contracts import Supernet
from nas_edge.data.batches import Batches
from nas_edge.errors import PluginError
from nas_edge.train.trainer import ImageTrainer, autocast, cosine, decay_groups, keep_freed_memory, training_device
from nas_edge.train.weights import BadWeights, read_weights

Params = Mapping[str, Any]
RANDOM = 2  # networks of a step, besides the largest and the smallest
ROUND_STEPS = 50  # between checkpoints


class SharedWeights:
    """The shared weights by name, and how networks take theirs. Weights of a network begin with `prefix`."""

    def __init__(self, supernet: Supernet, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        self.supernet, self.prefix = supernet, prefix
        self.tensors = {name: nn.Parameter(tensor) for name, tensor in tensors.items()}

    @classmethod
    def of(cls, supernet: Supernet, build: Callable[[Params], nn.Module], prefix: str = "") -> SharedWeights:
        """Weights as the networks of `whole` start with. Raises `PluginError` where none of them has one in full."""
        found: dict[str, Tensor] = {}
        for params in supernet.whole:
            for name, value in build(params).named_parameters():
                shared = supernet.shared_name(params, name.removeprefix(prefix))
                known = found.setdefault(shared, value.detach())
                if known.dim() != value.dim():
                    raise PluginError(
                        f"supernet: {shared!r} stands for weights of {known.dim()} and {value.dim()} axes"
                    )
                if all(new >= old for new, old in zip(value.shape, known.shape, strict=True)):
                    found[shared] = value.detach()
                elif any(new > old for new, old in zip(value.shape, known.shape, strict=True)):
                    raise PluginError(f"supernet: no architecture of `whole` has {shared!r} in its full size")
        return cls(supernet, found, prefix)

    def parts(self, params: Params, network: nn.Module) -> dict[str, Tensor]:
        """What each weight of a network is in the shared ones: views. Raises `PluginError` for what is not in them."""
        return {name: self._part(params, name, value) for name, value in network.named_parameters()}

    def _part(self, params: Params, name: str, value: Tensor) -> Tensor:
        shared = self.supernet.shared_name(params, name.removeprefix(self.prefix))
        whole = self.tensors.get(shared)
        if (
            whole is None
            or whole.dim() != value.dim()
            or any(a > b for a, b in zip(value.shape, whole.shape, strict=True))
        ):
            size = "is missing" if whole is None else f"is {tuple(whole.shape)}"
            raise PluginError(f"supernet: {shared!r} {size}; {name!r} of {dict(params)} is {tuple(value.shape)}")
        return whole[tuple(_slice(i, *ends) for i, ends in enumerate(zip(whole.shape, value.shape, strict=True)))]

    def load_into(self, params: Params, network: nn.Module) -> None:
        """Copy the weights of a network into it."""
        parts = self.parts(params, network)
        with torch.no_grad():
            for name, value in network.named_parameters():
                value.copy_(parts[name])

    def state(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu() for name, tensor in self.tensors.items()}

    def to(self, device: torch.device) -> None:
        for tensor in self.tensors.values():
            tensor.data = tensor.data.to(device)


def _slice(axis: int, whole: int, part: int) -> slice:
    """The first channels, and the middle of a kernel."""
    start = (whole - part) // 2 if axis >= 2 else 0
    return slice(start, start + part)


@dataclass(frozen=True)
class SupernetTrainer:
    """Trains shared weights. `build` makes the network of an architecture, `draw` a random architecture of a seed."""

    trainer: ImageTrainer
    build: Callable[[Params], nn.Module]
    draw: Callable[[int], Params]

    def fit(
        self,
        shared: SharedWeights,
        *,
        samples: int,
        checkpoint: Path | None = None,
        each_round: Callable[[float], None] = lambda share: None,
    ) -> None:
        """Train on about `samples` images; the same weights for the same seed, whether it was interrupted or not.

        The state is stored at `checkpoint` after each round, and taken from there; `each_round` hears the share done.
        """
        keep_freed_memory()
        config = self.trainer.config
        device = training_device(config.device)
        shared.to(device)
        size = config.batch_for(samples)
        steps = max(1, round(samples / size))
        optimizer = torch.optim.AdamW(
            decay_groups(list(shared.tensors.values()), config.weight_decay), lr=config.learning_rate, fused=True
        )
        done = _restore(checkpoint, shared, optimizer, steps) if checkpoint else 0
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
            while done < steps:
                for step, (inputs, labels) in enumerate(self._batches(done, steps, size, device), start=done):
                    for group in optimizer.param_groups:
                        group["lr"] = config.learning_rate * cosine(step, steps)
                    optimizer.zero_grad(set_to_none=True)
                    self._backward(shared, step, inputs, labels, device)
                    optimizer.step()
                    done = step + 1
                if checkpoint:
                    _store(checkpoint, shared, optimizer, done, steps)
                each_round(done / steps)
        shared.to(torch.device("cpu"))

    def _batches(self, done: int, steps: int, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of a round, whatever came before it."""
        data = self.trainer.data
        seed = int(np.random.SeedSequence([self.trainer.seed, done]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        count = min(ROUND_STEPS, steps - done)
        return iter(
            Batches(
                data.train,
                batch_size=size,
                augmentation=data.augmentation,
                generator=generator,
                device=device,
                samples=count * min(size, len(data.train)),
            )
        )

    def _backward(self, shared: SharedWeights, step: int, inputs: Tensor, labels: Tensor, device: torch.device) -> None:
        """Add up the gradients of the networks of a step."""
        config, supernet = self.trainer.config, shared.supernet
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        outputs = self._outputs(shared, supernet.largest, inputs, device)
        F.cross_entropy(outputs, labels, label_smoothing=config.label_smoothing).backward()
        wanted = outputs.detach().softmax(1)
        drawn = (self.draw(RANDOM * step + i) for i in range(RANDOM))
        for params in (supernet.smallest, *drawn):
            outputs = self._outputs(shared, params, inputs, device)
            F.cross_entropy(outputs, wanted).backward()

    def _outputs(self, shared: SharedWeights, params: Params, inputs: Tensor, device: torch.device) -> Tensor:
        network = self.build(params).train().to(device)
        with autocast(self.trainer.config, device):
            outputs: Tensor = torch.func.functional_call(network, shared.parts(params, network), (inputs,))
        return outputs.float()


def _store(path: Path, shared: SharedWeights, optimizer: torch.optim.Optimizer, done: int, steps: int) -> None:
    partly = path.with_name(path.name + ".part")
    torch.save({"weights": shared.state(), "optimizer": optimizer.state_dict(), "done": done, "steps": steps}, partly)
    partly.replace(path)


def _restore(path: Path, shared: SharedWeights, optimizer: torch.optim.Optimizer, steps: int) -> int:
    """The steps done by the stored state, which is taken up; 0 where there is none that fits."""
    if not path.is_file():
        return 0
    try:
        state = read_weights(path)
        weights = state["weights"]
        fits = state["steps"] == steps and {n: w.shape for n, w in weights.items()} == {
            n: w.shape for n, w in shared.tensors.items()
        }
    except (BadWeights, KeyError, TypeError, AttributeError):
        return 0
    if not fits:
        return 0
    with torch.no_grad():
        for name, tensor in shared.tensors.items():
            tensor.copy_(weights[name])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["done"])
