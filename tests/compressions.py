"""Compressions that take seconds: a small network of the user's, with and without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nas_edge.config import StudyConfig
from nas_edge.engine.compress import compress_config
from nas_edge.engine.progress import Progress
from nas_edge.engine.session import Session
from nas_edge.plugins import Registry
from nas_edge.report.compression import Compression, run_compression

from .studies import TRAIN, keep_profile

NETWORK = """
from torch import nn

def small():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 48, 3, 2, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10),
    )
"""
MODEL = "small_network:small"
QUICK = {"data": "digits", "target": "bench", "train_images": 256, "techniques": ["prune", "quantize"]}


def install_network(folder: Path) -> None:
    (folder / "small_network.py").write_text(NETWORK)


def quick_config(out: Path, model: str = MODEL, **options: Any) -> StudyConfig:
    train = {**TRAIN, **options.pop("train", {})}
    return compress_config(model, {**QUICK, "out": str(out), "train": train, **options})


def train_weights(registry: Registry, folder: Path) -> Path:
    """The state dict of the network, trained, in the current folder."""
    session = Session.open(quick_config(folder / "none"), registry)
    network = session.space.build({}, in_channels=1, num_classes=10, resolution=8)
    torch.save(session.trainer.fit(network, samples=6000).state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


def compressed(config: StudyConfig, registry: Registry, progress: Progress | None = None) -> Compression:
    """Run a compression in this process."""
    if not (config.folder / "study.db").exists():
        keep_profile(config, registry)
    return run_compression(config, progress)
