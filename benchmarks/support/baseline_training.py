"""A baseline that is trained until its validation accuracy has stopped rising, in rounds that are stored."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from benchmarks.support import baselines
from nas_edge.config import TrainConfig
from nas_edge.contracts import ImageData
from nas_edge.data import load_data
from nas_edge.export import export_onnx
from nas_edge.export.onnx_file import save_model
from nas_edge.plugins import load_plugins
from nas_edge.train.trainer import ImageTrainer

FIRST_EPOCHS, ROUND_EPOCHS = 18, 6  # of one cosine of the learning rate: the first round's, and a later one's
LEAST_GAIN = 0.001  # of validation accuracy by a round that is worth another one
MAX_ROUNDS = 8
FIRST_RATE, LATER_RATE = 3e-3, 1.5e-3
SEED = 0
TRAINED = Path(__file__).parents[1] / "trained"


@dataclass(frozen=True)
class Setting:
    """The data, the function of `baselines` that makes the network, and where everything is stored.

    Its weights are kept beside the benchmarks: they take an hour to train, and figures of several days are to be of
    the same network.
    """

    data: str
    function: str
    folder: Path

    @cached_property
    def images(self) -> ImageData:
        return load_data(load_plugins().datasets, self.data, seed=SEED)

    @property
    def weights(self) -> Path:
        return TRAINED / f"{self.function}.pt"

    @property
    def reference(self) -> str:
        """The baseline as `nas-edge compress` takes it."""
        return f"{baselines.__name__}:{self.function}:{self.weights}"

    def trainer(self, seed: int, rate: float) -> ImageTrainer:
        return ImageTrainer(self.images, TrainConfig(learning_rate=rate), seed)

    def save(self, model: nn.Module, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(export_onnx(model, channels=self.images.channels, resolution=self.images.resolution), path)
        return path


@dataclass(frozen=True)
class Baseline:
    """The trained network, its ONNX file, and its accuracy on validation after each round."""

    network: nn.Module
    path: Path
    validation: list[float]


def trained_baseline(setting: Setting, epochs: int = FIRST_EPOCHS, max_rounds: int = MAX_ROUNDS) -> Baseline:
    """Train in rounds until one gains nothing to speak of; the best is kept. Goes on where it was interrupted."""
    network = getattr(baselines, setting.function)()
    log = setting.weights.with_suffix(".json")
    validation: list[float] = json.loads(log.read_text()) if log.exists() else []
    if validation:
        network.load_state_dict(torch.load(setting.weights, weights_only=True))
    else:
        torch.manual_seed(SEED)
        network = getattr(baselines, setting.function)()
    while not _has_settled(validation, max_rounds):
        start, images = time.monotonic(), setting.images
        trainer = setting.trainer(SEED + len(validation), LATER_RATE if validation else FIRST_RATE)
        passes = ROUND_EPOCHS if validation else epochs
        trained = trainer.fit(network, samples=passes * len(images.train))
        right = trainer.accuracy(trained, images.validation)
        TRAINED.mkdir(exist_ok=True)
        if right > max(validation, default=0.0):
            network = trained
            torch.save(network.state_dict(), setting.weights)
        validation.append(right)
        log.write_text(json.dumps(validation))
        print(f"baseline: {right:.2%} on validation ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)
    network.eval()
    return Baseline(network, setting.save(network, setting.folder / "baseline.onnx"), validation)


def _has_settled(validation: list[float], max_rounds: int) -> bool:
    if len(validation) >= max_rounds:
        return True
    return len(validation) > 1 and validation[-1] < max(validation[:-1]) + LEAST_GAIN
