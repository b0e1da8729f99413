"""A profile: the latency model of one target, with the error that it had on networks it was not fitted on."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_edge.cpu import NARROW, PLAIN, WIDEST, channel_block
from nas_edge.errors import StudyMismatch, UserError
from nas_edge.files import Malformed, read_json
from nas_edge.latency.fit import fit
from nas_edge.latency.graph import Work, kernels_of
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel, Times
from nas_edge.latency.nodes import Observation
from nas_edge.records import Kernel, Prediction
from nas_edge.targets.address import cache_folder, differences, fingerprint_key

if TYPE_CHECKING:
    import onnx

FORMAT = "nas_edge latency profile"
VERSION = 2
BASE = "run"  # the kernel that stands for what each run costs before any operator
RANGE = 1.5  # how far beyond the calibrated latencies a prediction is still inside
SHAPE_DOUBT = 0.3  # of the time of kernels quite unlike any calibrated one
NETWORK_DOUBT = 0.5  # of the time of a network quite unlike any calibrated one
WIDER = 2.0  # the interval of a network outside
MOST_DOUBT = 0.14  # beyond the stated error, before a network counts as outside


def default_path(fingerprint: Mapping[str, Any], domain: str = "") -> Path:
    """Where profiles are kept: one a target, and one a domain on it."""
    suffix = "-" + hashlib.sha256(domain.encode()).hexdigest()[:8] if domain else ""
    return cache_folder("profiles") / f"{fingerprint_key(fingerprint)}{suffix}.json"


@dataclass(frozen=True)
class Profile:
    """Predicts latencies on the target with this fingerprint, at batch 1.

    `error` is the stated held-out error, `low_ms` and `high_ms` the range of latencies calibrated, `reference_ms`
    how fast the reference network ran meanwhile. `domain` says what networks it was calibrated on, `block`
    how many channels a block of the target's float convolutions has.
    """

    target: str
    fingerprint: Mapping[str, Any]
    model: LatencyModel
    error: HeldOutError
    low_ms: float
    high_ms: float
    reference_ms: float
    domain: str = ""
    block: int = WIDEST

    @classmethod
    def fitted(
        cls,
        works: Sequence[Work],
        latency_ms: Sequence[float],
        *,
        target: str,
        fingerprint: Mapping[str, Any],
        reference_ms: float = 0.0,
        domain: str = "",
        earlier: Profile | None = None,
        nodes: Sequence[Sequence[Observation]] = (),
    ) -> Profile:
        """The profile of measured networks, none of which holds an unsupported operator; the last two as in `fit`."""
        model, errors = fit(works, latency_ms, earlier.model if earlier else None, nodes)
        return cls(
            target=target,
            fingerprint=fingerprint,
            model=model,
            error=HeldOutError.of(errors),
            low_ms=min(latency_ms),
            high_ms=max(latency_ms),
            reference_ms=reference_ms,
            domain=domain,
            block=channel_block(fingerprint),
        )

    def predict(self, graph: onnx.ModelProto) -> Prediction:
        """The latency of a network, with an interval that held for 90 % of the held-out ones.

        The interval is wider for a network unlike those calibrated, and `outside` says so where it is quite unlike.
        Operators and kinds of kernel that the profile holds nothing about are named in `unsupported`. Raises
        `ModelError` for a graph that contradicts itself.
        """
        work = kernels_of(graph, block=self.block)
        times = self.model.times(work)
        ms, doubt = times.total_ms, _doubt(times)
        outside = self._outside(ms, doubt)
        width = math.hypot(self.error.q90, doubt) * (WIDER if outside else 1.0)
        kernels = [Kernel(k.name, k.kind, t, k.macs) for k, t in zip(work.kernels, times.kernels_ms, strict=True)]
        return Prediction(
            ms=ms,
            # measured = predicted / (1 + error), so the interval is not symmetric
            low_ms=ms / (1 + width),
            high_ms=ms / (1 - min(width, 0.9)),
            unsupported=work.unsupported + self.model.unknown(work),
            kernels=(Kernel(BASE, BASE, times.base_ms, 0), *kernels),
            outside=outside,
        )

    def _outside(self, ms: float, doubt: float) -> str | None:
        if not self.low_ms / RANGE <= ms <= self.high_ms * RANGE:
            return f"{ms:.3g} ms is beyond the {self.low_ms:.3g} to {self.high_ms:.3g} ms that were calibrated"
        if doubt > MOST_DOUBT:
            return f"its kernels are unlike those calibrated (up to {doubt:.0%} more error than stated)"
        return None

    def check(self, fingerprint: Mapping[str, Any]) -> None:
        """Raise `StudyMismatch`, saying what differs, unless the profile is of a target with this fingerprint."""
        if different := differences(self.fingerprint, fingerprint):
            raise StudyMismatch(
                f"the latency profile of {self.target} was made on another target ({'; '.join(different)}); "
                "calibrate this one with `nas-edge calibrate`"
            )

    def summary(self) -> dict[str, Any]:
        """The stated error, and what it was measured on."""
        return {"domain": self.domain, "error": asdict(self.error), "low_ms": self.low_ms, "high_ms": self.high_ms}

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "target": self.target,
            "domain": self.domain,
            "block": self.block,
            "fingerprint": dict(self.fingerprint),
            "model": self.model.to_json(),
            "error": asdict(self.error),
            "low_ms": self.low_ms,
            "high_ms": self.high_ms,
            "reference_ms": self.reference_ms,
        }

    @classmethod
    def from_json(cls, value: Any) -> Profile:
        """The profile that `to_json` wrote. Raises `UserError` saying what is wrong with it."""
        if not isinstance(value, Mapping) or value.get("format") != FORMAT:
            raise UserError("not a latency profile; `nas-edge calibrate -o profile.json` makes one")
        if value.get("version") != VERSION:
            raise UserError(
                f"the latency profile has version {value.get('version')!r}, this nas-edge reads version {VERSION}; "
                "calibrate again"
            )
        try:
            return cls(
                target=_text(value["target"]),
                domain=_text(value["domain"]),
                block=_block(value.get("block", WIDEST)),  # older profiles do not say: all were fitted to these
                fingerprint=dict(value["fingerprint"]),
                model=LatencyModel.from_json(value["model"]),
                error=HeldOutError(**{name: _number(v) for name, v in value["error"].items()} | _networks(value)),
                low_ms=_number(value["low_ms"]),
                high_ms=_number(value["high_ms"]),
                reference_ms=_number(value["reference_ms"]),
            )
        except KeyError as error:
            raise UserError(f"the latency profile lacks {error}; calibrate again") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"the latency profile is damaged ({error}); calibrate again") from None

    def keep(self) -> list[Path]:
        """Save the profile where searches of its domain and `nas-edge predict` find it; returns the paths."""
        paths = [default_path(self.fingerprint), default_path(self.fingerprint, self.domain)]
        for path in paths:
            self.save(path)
        return paths

    def save(self, path: Path) -> None:
        """Write the profile as JSON; a reader never sees half of it."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise UserError(f"{path}: the profile cannot be written ({error.strerror}); give another path") from None

    @classmethod
    def load(cls, path: Path) -> Profile:
        """Read a profile file. Raises `UserError` with its path where it is none."""
        try:
            value = read_json(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a profile") from None
        except Malformed as error:
            raise UserError(f"{path} {error}; `nas-edge calibrate -o profile.json` makes a profile") from None
        try:
            return cls.from_json(value)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a finite number of 0 or more")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _block(value: Any) -> int:
    if type(value) is not int or value not in (WIDEST, NARROW, PLAIN):
        raise ValueError(f"a block of {value!r} channels is not one of {WIDEST}, {NARROW} and {PLAIN}")
    return value


def _networks(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"networks": int(value["error"]["networks"])}


def _doubt(times: Times) -> float:
    """How much more a prediction may err than the stated error, as a share: by unlike kernels, by an unlike whole."""
    return SHAPE_DOUBT * times.shape_novelty + NETWORK_DOUBT * times.network_novelty
