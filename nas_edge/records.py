"""What was observed, with the units in the names. Every record is JSON through `dataclasses.asdict`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StepRecord:
    """What one technique did to a candidate at one stage."""

    technique: str
    stage: str
    seconds: float
    parameters_before: int | None = None
    parameters_after: int | None = None
    bytes_before: int | None = None
    bytes_after: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """The latency of one ONNX file on one target, batch 1.

    `low_ms` and `high_ms` are a 95 % interval of the median; `unstable_because` is None for a result that can be
    trusted, or says why it may not be and what to try.
    """

    p50_ms: float
    p90_ms: float
    low_ms: float
    high_ms: float
    samples: int
    target: str
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    unstable_because: str | None = None


@dataclass(frozen=True)
class Kernel:
    """One kernel of a predicted network: what it costs and how much work it does."""

    name: str
    kind: str
    ms: float
    macs: int


@dataclass(frozen=True)
class Prediction:
    """A predicted latency with its interval.

    `unsupported` names the operators that the profile holds nothing about: then `ms` leaves them out, the
    prediction must not be used as it stands, and the engine measures instead.
    """

    ms: float
    low_ms: float
    high_ms: float
    unsupported: tuple[str, ...] = ()
    kernels: tuple[Kernel, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """One finished candidate.

    `accuracy` is the fraction of validation images that the final ONNX file gets right in ONNX Runtime;
    `latency_ms` comes from `latency_source`, "predicted" or "measured"; `size_bytes` is the file that ships; `macs` is
    None where an operator is not known.
    """

    key: str
    accuracy: float
    latency_ms: float
    latency_low_ms: float
    latency_high_ms: float
    latency_source: str
    size_bytes: int
    parameters: int
    macs: int | None
    onnx_sha256: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[StepRecord, ...] = ()
