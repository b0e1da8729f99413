"""Ways to compress a trained network: single techniques by the tools that people use for them, and `compress`."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import torch_pruning
from torch import nn

import nas_edge
from benchmarks.support.baseline_training import Setting
from benchmarks.support.baselines import mobilenet_v2
from benchmarks.support.log import Log
from benchmarks.support.torchvision_families import prepared_int8
from nas_edge.contracts import Objective
from nas_edge.export import save_model

COMPRESS = "nas-edge compress"
RATIOS = (0.25, 0.5, 0.65)  # of the channels
WIDTHS = (0.75, 0.5, 0.35)
RECOVERY_RATE, STUDENT_RATE = 1e-3, 3e-3
TEMPERATURE, TEACHER_SHARE = 4.0, 0.9  # as Hinton et al. 2015 and most who followed
CALIBRATION_IMAGES = 512
GRANULARITIES = {"per tensor": False, "per channel": True}  # as `quantize_static` takes them
# The last is for CPUs whose kernels saturate sums of 8-bit products.
INT8 = {name: {"per_channel": each} for name, each in GRANULARITIES.items()}
INT8["per channel, 7 bits"] = {"per_channel": True, "reduce_range": True}
# What a user asks of `compress`, one study each, and the share of the images that each may spend.
ASKED: dict[str, dict[str, Any]] = {
    "2.4 times as fast at a loss of 0.35 points": {"max_drop": 0.35, "min_speedup": 2.4},
    "90 % smaller at 1 point": {"max_drop": 1.0, "min_size_reduction": 90.0},
}
TRIALS, FINALISTS = 48, 2
FINAL_BUDGET = 36.0  # a finalist is trained on as many images as that many candidates of the search


@dataclass(frozen=True)
class Model:
    """An ONNX file, the way and seed that made it, and the goal that `compress` ships it for, if any."""

    way: str
    name: str
    seed: int
    path: Path
    chosen_for: str | None = None


Way = Callable[[Setting, nn.Module, int, int], list[Model]]


def calibration_images(setting: Setting, seed: int) -> list[npt.NDArray[np.float32]]:
    """Some of the training images, `[1, channels, side, side]` in 0..1 each."""
    train, generator = setting.images.train.images, torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(train), generator=generator)[:CALIBRATION_IMAGES]
    return [(train[i : i + 1].float() / 255).numpy() for i in chosen.tolist()]


def quantize_static(setting: Setting, network: nn.Module, seed: int, images: int) -> list[Model]:
    """ONNX Runtime's own static quantization after its own preparation: per tensor, its default, or per channel."""
    calibration = calibration_images(setting, seed)
    made = []
    for name, options in INT8.items():
        path = _folder(setting, "quantize_static", seed) / f"{name.replace(' ', '_')}.onnx"
        if not path.exists():
            save_model(prepared_int8(setting.folder / "baseline.onnx", calibration, **options, weight_bits=8), path)
        made.append(Model("quantize_static", name, seed, path))
    return made


def prune(setting: Setting, network: nn.Module, seed: int, images: int) -> list[Model]:
    """torch-pruning: groups of channels by their weights' L2 norm, the same share in each layer, then training."""
    example = setting.images.validation.images[:1].float() / 255
    made = []
    for ratio in RATIOS:
        path = _folder(setting, "torch_pruning", seed) / f"ratio_{ratio}.onnx"
        if not path.exists():
            model = copy.deepcopy(network).train()
            pruner = torch_pruning.pruner.MagnitudePruner(
                model,
                example,
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=ratio,
                ignored_layers=[m for m in model.modules() if isinstance(m, nn.Linear)],
                round_to=8,
            )
            pruner.step()
            _train(setting, model, seed, images // len(RATIOS), RECOVERY_RATE, path)
        made.append(Model("torch_pruning", f"ratio {ratio}", seed, path))
    return made


def distill(setting: Setting, network: nn.Module, seed: int, images: int) -> list[Model]:
    """Smaller networks of the same family, trained from nothing on the baseline's softened outputs."""
    made = []
    for width in WIDTHS:
        path = _folder(setting, "distillation", seed) / f"width_{width}.onnx"
        if not path.exists():
            torch.manual_seed(seed)
            student = mobilenet_v2(setting.images.channels, len(setting.images.classes), width=width)
            _train(setting, student, seed, images // len(WIDTHS), STUDENT_RATE, path, SoftTargets(network))
        made.append(Model("distillation", f"width {width}", seed, path))
    return made


class SoftTargets(Objective):
    """`T^2 KL(teacher / T || student / T)` (Hinton et al. 2015, section 2), with the labels' loss for the rest."""

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher = teacher.eval()

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = F.log_softmax(self.teacher(inputs) / TEMPERATURE, dim=1)
        found = F.log_softmax(outputs / TEMPERATURE, dim=1)
        soft = F.kl_div(found, wanted, log_target=True, reduction="batchmean") * TEMPERATURE**2
        # The trainer adds the labels' loss with weight 1, so the other has the odds.
        return soft * TEACHER_SHARE / (1 - TEACHER_SHARE)


def compress(setting: Setting, network: nn.Module, seed: int, images: int) -> list[Model]:
    """One study for each goal; what it ships for it, and the rest of its front."""
    made = []
    samples = round(images / len(ASKED) / (TRIALS + FINALISTS * FINAL_BUDGET))
    for number, (goal, asked) in enumerate(ASKED.items()):
        folder = _folder(setting, "compress", seed) / f"goal_{number}"
        done = folder / "models.json"
        if not done.exists():
            found = nas_edge.compress(
                setting.reference,
                data=setting.images,  # split as the baseline was trained, whatever the seed of the search
                trials=TRIALS,
                seed=seed,
                out=str(folder),
                train={"samples": samples, "final_budget": FINAL_BUDGET, "finalists": FINALISTS},
                progress=Log(),
                **asked,
            )
            front = {t.number for t in found.stored.front()} | {found.best.number}
            files = {number: str(found.stored.model_path(number)) for number in sorted(front)}
            done.write_text(json.dumps({"best": found.best.number, "met": found.met, "files": files}))
        stored = json.loads(done.read_text())
        for trial, file in stored["files"].items():
            chosen = goal if int(trial) == stored["best"] else None
            made.append(Model(COMPRESS, f"{goal}: trial {trial}", seed, Path(file), chosen))
    return made


def _train(
    setting: Setting, model: nn.Module, seed: int, images: int, rate: float, path: Path, *objectives: Objective
) -> None:
    trained = setting.trainer(seed, rate).fit(model, samples=images, objectives=objectives)
    setting.save(trained, path)


def _folder(setting: Setting, way: str, seed: int) -> Path:
    folder = setting.folder / f"seed_{seed}" / way
    folder.mkdir(parents=True, exist_ok=True)
    return folder


SINGLE: tuple[str, ...] = ("quantize_static", "torch_pruning", "distillation")
WAYS: dict[str, Way] = dict(zip(SINGLE, (quantize_static, prune, distill), strict=True))
