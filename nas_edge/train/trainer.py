"""Trains a candidate: AdamW (Loshchilov & Hutter, 2019), one cosine with a short warm-up, label smoothing.

With a lower precision (Micikevicius et al., 2018) convolutions and products are computed in it and everything else in
float32, as are the weights; the loss is scaled for float16, whose gradients would vanish.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from nas_edge.config import TrainConfig
from nas_edge.contracts import ImageData, Objective, Split
from nas_edge.data.batches import Batches, evaluation_batches
from nas_edge.errors import UserError
from nas_edge.machine_lock import give_way, working

WARMUP_SHARE = 0.1
FINETUNE_RATE = 0.1  # of the learning rate: the weights settle, and do not leave where they are
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
RECALIBRATION_SAMPLES, RECALIBRATION_BATCH, PROBE_IMAGES = 1024, 64, 2048
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def training_device(wanted: str) -> torch.device:
    """The device to train on: CUDA where there is one and the config allows it."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def check_precision(config: TrainConfig) -> None:
    """Raise `UserError` for a precision that the training device lacks."""
    if config.precision == "float16" and training_device(config.device).type != "cuda":
        raise UserError(
            "train.precision is 'float16', which needs a CUDA device; use 'bfloat16' on this CPU, or 'float32'"
        )


@functools.cache
def keep_freed_memory() -> None:
    """Let malloc reuse freed memory instead of giving it back: a training step would page it in anew each time."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


@dataclass
class Milestones:
    """Looks at the first training that comes by: `reached` is told the accuracy after each share of it, and may raise.

    The accuracy is that on at most `PROBE_IMAGES` validation images.
    """

    shares: Sequence[float]
    reached: Callable[[float, float], None]
    _passed: int = 0

    def next_at(self, steps: int) -> int | None:
        """After how many of the steps the next one is due."""
        return None if self._passed == len(self.shares) else math.ceil(self.shares[self._passed] * steps)

    def report(self, accuracy: float) -> None:
        self._passed += 1
        self.reached(self.shares[self._passed - 1], accuracy)


@dataclass(frozen=True)
class ImageTrainer:
    """Seeded and repeatable: the same model, data and seed give the same weights on the same machine.

    The last `finetune_samples` images of a training are its joint fine-tuning: a second cosine from a tenth of the
    learning rate. The schedules of the objectives have ended by then (the masks, ranges and codes are the final ones),
    their losses go on, and all weights settle under them together. `milestones` look at the first of its trainings.
    """

    data: ImageData
    config: TrainConfig
    seed: int
    finetune_samples: int = 0
    milestones: Milestones | None = None

    @working()
    def fit(self, model: nn.Module, *, samples: int, objectives: Sequence[Objective] = ()) -> nn.Module:
        """A trained copy of the model, on the CPU and in eval mode, after about `samples` images seen."""
        keep_freed_memory()
        device = training_device(self.config.device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
            torch.manual_seed(self.seed)
            model = _laid_out(copy.deepcopy(model).to(device), torch.channels_last).train()
            try:
                for objective in objectives:
                    objective.prepare(model)
                self._run(model, samples, objectives, device)
            finally:
                for objective in objectives:
                    objective.finish(model)
            self._recalibrate(model, device)
        return _laid_out(model.to("cpu"), torch.contiguous_format).eval()

    def _run(self, model: nn.Module, samples: int, objectives: Sequence[Objective], device: torch.device) -> None:
        stream = self._stream(samples, device)
        steps_an_epoch, tuning = stream.per_epoch, min(len(stream) - 1, -(-self.finetune_samples // stream.batch_size))
        steps = len(stream) - tuning
        epochs = math.ceil(steps / steps_an_epoch)
        parameters = [p for p in model.parameters() if p.requires_grad]
        own = [p for objective in objectives for p in objective.parameters()]
        optimizer = torch.optim.AdamW(
            decay_groups([*parameters, *own], self.config.weight_decay), lr=self.config.learning_rate, fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, tuning))
        scaler = torch.amp.GradScaler(device.type, enabled=self.config.precision == "float16")
        for step, (inputs, labels) in enumerate(stream, start=1):
            give_way()
            with autocast(self.config, device):
                outputs = model(inputs.contiguous(memory_format=torch.channels_last)).float()
                loss = F.cross_entropy(outputs, labels, label_smoothing=self.config.label_smoothing)
                for objective in objectives:
                    extra = objective.loss(inputs, labels, outputs)
                    loss = loss if extra is None else loss + extra
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scale = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            if scaler.get_scale() >= scale:  # else the gradients overflowed, and the step was left out
                schedule.step()
            if step <= steps and (step % steps_an_epoch == 0 or step == steps):
                for objective in objectives:
                    objective.epoch_end(model, math.ceil(step / steps_an_epoch), epochs)
            while self.milestones and step == self.milestones.next_at(steps):
                self.milestones.report(self._probed(model, device))

    def _probed(self, model: nn.Module, device: torch.device) -> float:
        """The accuracy of a network in the middle of its training, which goes on as if nothing had been asked."""
        kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self._recalibrate(model, device)
            accuracy = self.accuracy(model, self.data.validation.spread(PROBE_IMAGES))
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
        return accuracy

    def recalibrate(self, model: nn.Module) -> None:
        """Measure the statistics of batch norm anew for weights that are not those that it has seen, in place."""
        was_training = model.training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._recalibrate(model.train(), torch.device("cpu"))
        model.train(was_training)

    def _recalibrate(self, model: nn.Module, device: torch.device) -> None:
        """Replace the running statistics, which lag behind in a short training, by those of the final weights."""
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # an even average over the batches below
        with torch.no_grad():
            for inputs, _ in self._stream(RECALIBRATION_SAMPLES, device, RECALIBRATION_BATCH):
                model(inputs)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def _stream(self, samples: int, device: torch.device, batch_size: int | None = None) -> Batches:
        return Batches(
            self.data.train,
            batch_size=batch_size or self.config.batch_for(samples),
            augmentation=self.data.augmentation,
            generator=torch.Generator().manual_seed(self.seed),
            device=device,
            samples=samples,
        )

    def accuracy(self, model: nn.Module, split: Split) -> float:
        """The fraction of a split that the torch model gets right."""
        was_training = model.training
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        model.eval()
        right = 0
        with torch.inference_mode():
            for inputs, labels in evaluation_batches(split, 256):
                right += int((model(inputs.to(device)).argmax(1).cpu() == labels).sum())
        model.train(was_training)
        return right / len(split)


def autocast(config: TrainConfig, device: torch.device) -> AbstractContextManager[object]:
    """The precision of a training."""
    dtype = PRECISIONS.get(config.precision)
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _laid_out(model: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """The model in a memory format: with channels last, convolutions train up to 1.7 times as fast on a CPU."""
    return model.to(memory_format=memory_format)  # type: ignore[call-overload,no-any-return]


def decay_groups(parameters: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Weight decay on matrices and kernels alone: on scales and biases of batch norm it only hurts."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _rate(step: int, steps: int, tuning: int) -> float:
    """The share of the learning rate in a training of so many steps, with `tuning` of fine-tuning after them."""
    return cosine(step, steps) if step < steps or not tuning else FINETUNE_RATE * cosine(step - steps, tuning)


def cosine(step: int, steps: int) -> float:
    """The share of the learning rate in a step: up in a straight line, and down in half a cosine."""
    warmup = max(1, round(steps * WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
