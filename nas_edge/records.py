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

    `low_ms` and `high_ms` are a 95 % interval of the median `p50_ms`, at the usual speed of the target; `p90_ms` is of
    what a clock saw. `samples` are single runs, in so many `visits` to fresh `processes`. `speed` is how fast the
    target ran its reference networks meanwhile, as a share of its usual speed. `unstable_because` is None for a result
    that can be trusted, or says why it may not be and what to try.
    """

    p50_ms: float
    p90_ms: float
    low_ms: float
    high_ms: float
    samples: int
    target: str
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    unstable_because: str | None = None
    visits: int | None = None
    processes: int | None = None
    speed: float | None = None


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
    prediction must not be used as it stands, and the engine measures instead. `outside` says where the network is
    beyond what was calibrated, or is None: then the interval is wide, and the engine measures too.
    """

    ms: float
    low_ms: float
    high_ms: float
    unsupported: tuple[str, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    outside: str | None = None


@dataclass(frozen=True)
class Audited:
    """One model of an audit: what the profile in use predicts of its file, and what was measured."""

    trial: int
    predicted_ms: float
    measured_ms: float
    unstable_because: str | None = None


@dataclass(frozen=True)
class LatencyAudit:
    """Predictions held against measurements when a study had `finished` trials.

    `profile` is the key of the profile that predicted, the `stated` figures its held-out error: fractions, and the
    number of networks they were found on. `sample` are random trials, `front` the members of the front, which were
    chosen for their predictions and say nothing about those of others.
    """

    finished: int
    profile: str
    stated_median: float
    stated_q90: float
    stated_networks: int
    sample: tuple[Audited, ...]
    front: tuple[Audited, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LatencyAudit:
        models = {name: tuple(Audited(**model) for model in value[name]) for name in ("sample", "front")}
        return cls(**{**value, **models})


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
