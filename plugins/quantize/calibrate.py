"""What flows through a float network on training images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import torch

from .graphs import Array, copied
from .ranges import Range, entropy_range, percentile_range

if TYPE_CHECKING:
    from . import QuantizeConfig

SAMPLES = 1 << 15  # values of a tensor and batch that percentiles and histograms are taken of
PIXELS = 1 << 18  # of a batch: every activation of it is held in memory


def calibration_batches(images: torch.Tensor, count: int, seed: int) -> Iterator[Array]:
    """`count` of the images, uint8 `[n, channels, height, width]`, drawn by seed, as float32 batches in 0..1."""
    order = np.random.default_rng(seed).permutation(len(images))[:count]
    batch = max(1, min(32, PIXELS // (images.shape[2] * images.shape[3])))
    for start in range(0, len(order), batch):
        yield images[torch.from_numpy(order[start : start + batch])].numpy().astype(np.float32) / np.float32(255)


@dataclass(frozen=True)
class Calibration:
    """Images to calibrate on, in batches, as often as they are asked for."""

    images: torch.Tensor
    count: int
    seed: int

    def __iter__(self) -> Iterator[Array]:
        return calibration_batches(self.images, self.count, self.seed)

    def first(self, count: int) -> Calibration:
        """The first of them."""
        return replace(self, count=min(count, self.count))


def activation_ranges(
    model: onnx.ModelProto, tensors: list[onnx.ValueInfoProto], batches: Iterable[Array], config: QuantizeConfig
) -> dict[str, Range]:
    """The range of each tensor, over all images and positions.

    Extremes, min x and max x (Jacob et al. 2018, section 3.1), are exact. Percentiles and entropies are of up to 32,768
    evenly spaced values of each batch. In 16 bits there are levels enough for the extremes, whatever the config says.
    """
    chosen = "minmax" if config.scheme == "int16" else config.ranges
    runner = session(model, tensors)
    names = [t.name for t in tensors]
    extremes: dict[str, list[np.float32]] = {name: [] for name in names}
    samples: dict[str, list[Array]] = {name: [] for name in names}
    for batch in batches:
        for name, value in zip(names, run(runner, names, batch), strict=True):
            extremes[name] += [value.min(), value.max()]
            if chosen != "minmax":
                flat = value.reshape(-1)
                samples[name].append(flat[:: flat.size // SAMPLES | 1].copy())
    widest = {name: (min(seen), max(seen)) for name, seen in extremes.items()}
    if chosen == "minmax":
        return widest
    return {name: _narrowed(np.concatenate(samples[name]), widest[name], config) for name in names}


def _narrowed(values: Array, extremes: Range, config: QuantizeConfig) -> Range:
    if config.ranges == "percentile":
        return percentile_range(values, config.percentile, extremes)
    return entropy_range(values, extremes)


def logits_of(model: onnx.ModelProto, batches: Iterable[Array]) -> Array:
    """What a network says of all the images, `[n, classes]`."""
    runner = session(model)
    return np.concatenate([run(runner, [runner.get_outputs()[0].name], batch)[0] for batch in batches])


def sqnr_db(exact: Array, approximate: Array) -> float:
    """Signal to quantization noise, 10 log10(sum x^2 / sum (x - y)^2); infinite where there is no noise."""
    noise = float(((exact.astype(np.float64) - approximate) ** 2).sum())
    return 10 * float(np.log10((exact.astype(np.float64) ** 2).sum() / noise)) if noise else float("inf")


def session(
    model: onnx.ModelProto, tensors: Sequence[onnx.ValueInfoProto] | None = None
) -> onnxruntime.InferenceSession:
    """A session with as many threads as torch uses here; its outputs are the tensors, where they are given."""
    if tensors is not None:
        model = copied(model)
        del model.graph.output[:]
        model.graph.output.extend(tensors)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.x64quantprecision", "1")  # no saturation, on any CPU
    # It moves roundings over reshapes, and in opset 21 refuses signed ones that it moved itself (1.31): they stay here.
    return onnxruntime.InferenceSession(
        model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["QDQPropagationTransformer"],
    )


def run(
    runner: onnxruntime.InferenceSession, outputs: list[str], images: Array, others: dict[str, Array] | None = None
) -> list[Array]:
    """The outputs for a batch of images; computes no more than they need."""
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    found: list[Array] = runner.run(outputs, {runner.get_inputs()[0].name: images, **(others or {})}, options)
    return found
