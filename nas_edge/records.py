"""What was observed, with the units in the names. Every record is JSON through `dataclasses.asdict`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TRAINING = "training"  # stands for a technique in the record of a step


@dataclass(frozen=True)
class Figures:
    """What is known of a candidate between two steps; None where it is not.

    `parameters`, `macs` (for one image) and the bytes are those of the ONNX file that the candidate would be exported
    to then, `compressed_bytes` those that deflate leaves of it: what zeros and repeated weights save. `latency_ms`
    is for that file on the target, "predicted" or "measured" (`latency_source`). `accuracy` is the fraction of the
    validation split.
    """

    parameters: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    compressed_bytes: int | None = None
    latency_ms: float | None = None
    latency_source: str | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class StepRecord:
    """What one technique did to a candidate at one stage, or what a training did (the technique "training").

    `undone` is None for a step that stands, or says why the engine took it back.
    """

    technique: str
    stage: str
    seconds: float
    before: Figures = Figures()
    after: Figures = Figures()
    notes: tuple[str, ...] = ()
    undone: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StepRecord:
        """The record that `asdict` made, also that of a study whose steps held parameters and bytes alone."""
        values = dict(value)
        for side in ("before", "after"):
            old = {
                "parameters": values.pop(f"parameters_{side}", None),
                "size_bytes": values.pop(f"bytes_{side}", None),
            }
            values[side] = Figures(**values.get(side, old))
        return cls(**{**values, "notes": tuple(values.get("notes", ()))})


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

    @property
    def usable(self) -> bool:
        """Whether the engine takes it; else it measures."""
        return not self.unsupported and self.outside is None


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
    None where an operator is not known. `techniques` are those of the spec that act, without those that were undone;
    None in a study from before any was. `latency_unstable_because` says why a measured latency may not be trusted.
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
    techniques: tuple[str, ...] | None = None
    latency_unstable_because: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Evaluation:
        steps = tuple(StepRecord.from_json(step) for step in value["steps"])
        techniques = value.get("techniques")
        return cls(**{**value, "steps": steps, "techniques": None if techniques is None else tuple(techniques)})
