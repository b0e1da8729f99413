"""The ranges of activations, seen on training images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch

Array = npt.NDArray[np.float32]
SAMPLES = 1 << 15  # values of a tensor and batch that percentiles are taken of
PIXELS = 1 << 18  # of a batch: every activation of it is held in memory


def calibration_batches(images: torch.Tensor, count: int, seed: int) -> Iterator[Array]:
    """`count` of the images, uint8 `[n, channels, height, width]`, drawn by seed, as float32 batches in 0..1."""
    order = np.random.default_rng(seed).permutation(len(images))[:count]
    batch = max(1, min(32, PIXELS // (images.shape[2] * images.shape[3])))
    for start in range(0, len(order), batch):
        yield images[torch.from_numpy(order[start : start + batch])].numpy().astype(np.float32) / np.float32(255)


def activation_ranges(
    model: onnx.ModelProto, tensors: list[onnx.ValueInfoProto], batches: Iterable[Array], percentile: float
) -> dict[str, tuple[np.float32, np.float32]]:
    """The lowest and highest value of each tensor; with a percentile under 100, without the outermost values.

    Extremes are exact. Percentiles are of up to 32,768 evenly spaced values of each batch.
    """
    session = _observing_session(model, tensors)
    names = [t.name for t in tensors]
    extremes: dict[str, list[np.float32]] = {name: [] for name in names}
    samples: dict[str, list[Array]] = {name: [] for name in names}
    for batch in batches:
        for name, value in zip(names, session.run(names, {session.get_inputs()[0].name: batch}), strict=True):
            extremes[name] += [value.min(), value.max()]
            if percentile < 100:
                flat = value.reshape(-1)
                samples[name].append(flat[:: flat.size // SAMPLES | 1].copy())
    ranges = {name: (min(seen), max(seen)) for name, seen in extremes.items()}
    if percentile == 100:
        return ranges
    tail = (1 - percentile / 100) / 2
    return {name: _between(np.concatenate(samples[name]), tail, *ranges[name]) for name in names}


def _between(values: Array, tail: float, lowest: np.float32, highest: np.float32) -> tuple[np.float32, np.float32]:
    """The quantiles that leave `tail` out at each end; the extremes where those leave no range at all."""
    low, high = np.quantile(values, [tail, 1 - tail]).astype(np.float32)
    return (low, high) if low < high else (lowest, highest)


def _observing_session(model: onnx.ModelProto, tensors: list[onnx.ValueInfoProto]) -> onnxruntime.InferenceSession:
    """A session whose outputs are the tensors, with as many threads as torch uses here."""
    observing = onnx.ModelProto()
    observing.CopyFrom(model)
    del observing.graph.output[:]
    observing.graph.output.extend(tensors)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(observing.SerializeToString(), options, providers=["CPUExecutionProvider"])
