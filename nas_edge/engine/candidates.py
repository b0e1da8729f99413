"""Random candidates with random weights: what a latency profile is calibrated and checked on."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from nas_edge.config import StudyConfig
from nas_edge.contracts import Augmentation, Context, ImageData, SearchSpace, Split, Target, Technique
from nas_edge.engine.choices import Choices
from nas_edge.engine.sample import RandomTrial, suggest_spec
from nas_edge.errors import InvalidCandidate
from nas_edge.latency.probes import random_probe
from nas_edge.pipeline import Untrained, produce
from nas_edge.plugins import Registry
from nas_edge.steps import order_techniques

CALIBRATION_SEED = 1_000_003
SIDES = (8, 16, 24, 28, 32, 48, 64, 80, 96, 128, 160, 192, 224)
CLASSES = (10, 10, 100, 200)
PROBE_SHARE = 0.4
IMAGES = 40
DRAWS = 40
DOMAIN_CHARACTERS = 200  # of a column in the database


@dataclass(frozen=True)
class RandomCandidates:
    """The `index`-th random candidate of a space, with techniques, as an ONNX model; the same for the same index.

    For images like `data`, or of any size from 8 to 224 pixels where it is None. `InvalidCandidate` for one that
    cannot be built.
    """

    registry: Registry
    space: SearchSpace
    techniques: Sequence[Technique]
    config: StudyConfig
    target: Target
    data: ImageData | None = None
    seed: int = CALIBRATION_SEED

    def __call__(self, index: int) -> onnx.ModelProto:
        if self.data is not None:
            return self._made(self.data, self.seed + index)
        draw = random.Random(f"{self.seed}/{index}")
        data = noise_images(draw.choice(SIDES), draw.choice((1, 3, 3)), draw.choice(CLASSES), index)
        reason: InvalidCandidate | None = None
        for _ in range(DRAWS):  # small images fit few architectures
            try:
                return self._made(data, draw.randrange(1 << 30))
            except InvalidCandidate as error:
                reason = error
        raise InvalidCandidate(f"{DRAWS} random candidates could not be built: {reason}")

    def _made(self, data: ImageData, seed: int) -> onnx.ModelProto:
        spec = suggest_spec(RandomTrial(seed), self.space, self.techniques, Choices.of(self.config.set))
        with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
            context = Context(
                data=data,
                target=self.target,
                trainer=Untrained(self.config.seed),
                work_dir=Path(folder),
                seed=self.config.seed,
                samples=1,
                trained=False,
                log=logging.getLogger("nas_edge"),
            )
            graph = produce(self.registry, spec, context, self.config.train).graph
        if graph is None:
            raise InvalidCandidate(f"the random candidate of seed {seed} has no graph")
        return graph

    @property
    def domain(self) -> str:
        """What networks these are; at most 200 characters."""
        techniques = ",".join(f"{t.name}{t.version}" for t in self.techniques)
        shape = "any" if self.data is None else f"{self.data.channels}x{self.data.resolution}"
        chosen = "".join(f"/{name}={json.dumps(value)}" for name, value in sorted(self.config.set.items()))
        text = f"{self.space.family}/{shape}/{techniques}{chosen}"
        if len(text) <= DOMAIN_CHARACTERS:
            return text
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return f"{text[: DOMAIN_CHARACTERS - 17]}/{digest}"


def searched_techniques(config: StudyConfig, registry: Registry) -> list[Technique]:
    """The techniques that a search chooses from, in the order they act. Raises `UserError` for an unknown one."""
    names = config.techniques
    if names is None:
        names = default_techniques(config, registry)
    return order_techniques([registry.find("technique", name) for name in names])


def default_techniques(config: StudyConfig, registry: Registry) -> list[str]:
    """Those that are part of a search that names none, and of a compression with its goals."""
    small = config.goals is not None and config.goals.min_size_reduction is not None
    return sorted(name for name, t in registry.techniques.items() if t.by_default or (small and t.for_size))


def with_probes(candidates: RandomCandidates, index: int) -> onnx.ModelProto:
    """The `index`-th network of a calibration for networks of any family: a candidate, or else a probe."""
    draw = random.Random(f"{candidates.seed}/{index}/probe")
    return random_probe(candidates.seed + index) if draw.random() < PROBE_SHARE else candidates(index)


def noise_images(side: int, channels: int, classes: int, seed: int) -> ImageData:
    """A data set of random pixels, for networks whose latency alone matters."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (IMAGES, channels, side, side), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.arange(IMAGES) % classes)
    return ImageData(
        name=f"noise {channels}x{side}",
        classes=tuple(str(i) for i in range(classes)),
        train=split,
        validation=split,
        test=split,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        augmentation=Augmentation(),
        fingerprint=f"noise/{channels}x{side}/{classes}/{seed}",
        preprocessing="Random pixels.",
    )
