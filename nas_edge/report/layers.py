"""Where the time of one candidate goes: its predicted kernels by block and by kind of work."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from nas_edge.engine.recipes import copy_model
from nas_edge.errors import ModelError, StorageError, UserError
from nas_edge.latency.profile import BASE, Profile
from nas_edge.records import Kernel, Prediction
from nas_edge.report.front import FrontRow
from nas_edge.store.study import StoredStudy

LEAST_MS = 1e-6
SAME = 1e-3  # by how much a prediction that is made again may differ from the stored one
START = "each run"
POINTWISE, DEPTHWISE, DENSE = "1x1 convolution", "depthwise convolution", "other convolution"
PRODUCT, CONVERSION, REST = "matrix product", "int8 and layout conversion", "everything else"
WORKS = (POINTWISE, DEPTHWISE, DENSE, PRODUCT, CONVERSION, REST)
# What a kernel's kind holds, and which work it is; the first that fits.
KINDS = (
    ("depthwise", DEPTHWISE),
    ("pointwise", POINTWISE),
    ("quantize", CONVERSION),
    ("reorder", CONVERSION),
    ("gemm", PRODUCT),
    ("matmul", PRODUCT),
    ("dense", DENSE),
    ("vector", DENSE),
    ("conv", DENSE),
    ("group", DENSE),
)


@dataclass(frozen=True)
class LayerTime:
    """The kernels of one kind of work in one block, in the network's order."""

    block: str
    work: str
    ms: float
    kernels: int
    macs: int


@dataclass(frozen=True)
class Layers:
    """Of the member of the front with this number.

    `ms` is their sum, the whole prediction; `doubt` says why the search did not trust it; `missing` why there is none.
    """

    number: int
    ms: float | None
    times: tuple[LayerTime, ...] = ()
    doubt: str | None = None
    missing: str | None = None


def layers(stored: StoredStudy, row: FrontRow) -> Layers:
    """Predicted anew with the study's profile, for the database holds no kernels."""
    try:
        prediction = _predicted(stored, row)
    except (StorageError, ModelError) as error:
        return Layers(row.number, None, missing=str(error))
    if prediction is None:
        return Layers(row.number, None, missing="what predicted its latency is no profile that this database holds")
    if prediction.unsupported:
        named = ", ".join(prediction.unsupported)
        return Layers(row.number, None, missing=f"the profile holds nothing about {named}, so that it was measured")
    return Layers(row.number, prediction.ms, layer_times(prediction.kernels), prediction.outside)


def profiles(stored: StoredStudy) -> list[Profile]:
    """The profiles of the study's target that its database holds, the newest first; those that are damaged left out."""
    found = []
    for value in stored.tables.calibrations(stored.target_key):
        try:
            found.append(Profile.from_json(value))
        except UserError:
            continue
    return found


def _predicted(stored: StoredStudy, row: FrontRow) -> Prediction | None:
    """What that profile says which said what the report says; of a network that was measured, what the newest says."""
    held = profiles(stored)
    if not held:
        return None
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        path = Path(folder) / "model.onnx"
        copy_model(stored, stored.trial(row.number), path, final=row.trained_longer)
        graph = onnx.load(path)
    wanted = row.repredicted_ms or row.predicted_ms
    if wanted is None:
        return held[0].predict(graph)
    predictions = (profile.predict(graph) for profile in held)
    return next((p for p in predictions if math.isclose(p.ms, wanted, rel_tol=SAME)), None)


def layer_times(kernels: Sequence[Kernel]) -> tuple[LayerTime, ...]:
    """The kernels by block and work. What has no name of its own is there for the next one that has."""
    blocks, block, wrapped = [], "end", _is_wrapped(kernels)
    for kernel in reversed(kernels):
        block = block_of(kernel, wrapped) or block
        blocks.append(block)
    found: dict[tuple[str, str], list[Kernel]] = {}
    for kernel, block in zip(kernels, reversed(blocks), strict=True):
        found.setdefault((block, work_of(kernel)), []).append(kernel)
    return tuple(
        LayerTime(block, work, sum(k.ms for k in group), len(group), sum(k.macs for k in group))
        for (block, work), group in found.items()
        if sum(k.ms for k in group) > LEAST_MS
    )


def block_of(kernel: Kernel, wrapped: bool) -> str | None:
    """`stage3.1` for `/1/stage3/stage3.1/layers/.../Conv`; None for what an exporter named by a number.

    A network is `wrapped` where its preprocessing stands before it, as 0 and 1 of a sequence.
    """
    if kernel.kind == BASE:
        return START
    modules = _modules(kernel)
    if not modules:
        return None
    if wrapped:
        modules = modules[1:] or ["input"]
    if len(modules) > 1 and re.fullmatch(rf"{re.escape(modules[0])}\.\d+", modules[1]):
        return modules[1]
    return modules[0]


def _is_wrapped(kernels: Sequence[Kernel]) -> bool:
    return {modules[0] for kernel in kernels if (modules := _modules(kernel))} <= {"0", "1"}


def _modules(kernel: Kernel) -> list[str]:
    return [part for part in kernel.name.split("/")[1:-1] if part]


def work_of(kernel: Kernel) -> str:
    """Which kind of work a kernel is."""
    return next((work for part, work in KINDS if part in kernel.kind), REST)
