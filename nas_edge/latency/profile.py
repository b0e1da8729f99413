"""A profile: the latency model of one target, with the error that it had on networks it was not fitted on."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_edge.errors import StudyMismatch, UserError
from nas_edge.latency.fit import HeldOutError
from nas_edge.latency.graph import FEATURES, kernels_of
from nas_edge.latency.model import Correction, LatencyModel
from nas_edge.records import Kernel, Prediction
from nas_edge.targets.address import differences, fingerprint_key

if TYPE_CHECKING:
    import onnx

FORMAT = "nas_edge latency profile"
VERSION = 1
BASE = "run"  # the kernel that stands for what each run costs before any operator
OUTSIDE = 2.0  # how much wider an interval is beyond the latencies that were calibrated


def default_path(fingerprint: Mapping[str, Any], domain: str = "") -> Path:
    """Where profiles are kept: under $XDG_CACHE_HOME, or ~/.cache; one a target, and one a domain on it."""
    cache = os.environ.get("XDG_CACHE_HOME")
    folder = Path(cache) if cache else Path.home() / ".cache"
    suffix = "-" + hashlib.sha256(domain.encode()).hexdigest()[:8] if domain else ""
    return folder / "nas_edge" / "profiles" / f"{fingerprint_key(fingerprint)}{suffix}.json"


@dataclass(frozen=True)
class Profile:
    """Predicts latencies on the target with this fingerprint, at batch 1.

    `error` is the stated held-out error, `low_ms` and `high_ms` the range of latencies calibrated, `reference_ms`
    how fast the reference network ran meanwhile. `domain` says what networks it was calibrated on.
    """

    target: str
    fingerprint: Mapping[str, Any]
    model: LatencyModel
    error: HeldOutError
    low_ms: float
    high_ms: float
    reference_ms: float
    domain: str = ""

    def predict(self, graph: onnx.ModelProto) -> Prediction:
        """The latency of a network, with an interval that held for 90 % of the held-out ones.

        Operators and kinds of kernel that the profile holds nothing about are named in `unsupported`. Raises
        `ModelError` for a graph that contradicts itself.
        """
        work = kernels_of(graph)
        base, times = self.model.times_ms(work)
        ms = base + sum(times)
        width = self.error.q90 * (1.0 if self.low_ms / 1.5 <= ms <= self.high_ms * 1.5 else OUTSIDE)
        kernels = [Kernel(k.name, k.kind, t, k.macs) for k, t in zip(work.kernels, times, strict=True)]
        return Prediction(
            ms=ms,
            # measured = predicted / (1 + error), so the interval is not symmetric
            low_ms=ms / (1 + width),
            high_ms=ms / (1 - min(width, 0.9)),
            unsupported=work.unsupported + self.model.unknown(work),
            kernels=(Kernel(BASE, BASE, base, 0), *kernels),
        )

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
        correction = self.model.correction
        return {
            "format": FORMAT,
            "version": VERSION,
            "target": self.target,
            "domain": self.domain,
            "fingerprint": dict(self.fingerprint),
            "features": list(FEATURES),
            "base_ms": self.model.base_ms,
            "coefficients": {kind: list(values) for kind, values in sorted(self.model.coefficients.items())},
            "correction": None if correction is None else asdict(correction),
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
        if value.get("version") != VERSION or value.get("features") != list(FEATURES):
            raise UserError(
                f"the latency profile has version {value.get('version')!r}, this nas-edge reads version {VERSION}; "
                "calibrate again"
            )
        try:
            return cls(
                target=_text(value["target"]),
                domain=_text(value["domain"]),
                fingerprint=dict(value["fingerprint"]),
                model=_model(value),
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
            value = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a profile") from None
        except ValueError:
            raise UserError(f"{path}: not JSON; `nas-edge calibrate -o profile.json` makes a profile") from None
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


def _networks(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"networks": int(value["error"]["networks"])}


def _model(value: Mapping[str, Any]) -> LatencyModel:
    coefficients = {kind: tuple(map(_number, row)) for kind, row in value["coefficients"].items()}
    for kind, row in coefficients.items():
        if len(row) != len(FEATURES):
            raise ValueError(f"{kind} has {len(row)} coefficients, not {len(FEATURES)}")
    stored = value["correction"]
    correction = None
    if stored is not None:
        tables = {key: {n: float(v) for n, v in stored[key].items()} for key in ("weights", "means", "scales")}
        if not tables["weights"].keys() <= tables["means"].keys() & tables["scales"].keys():
            raise ValueError("the correction's tables do not fit together")
        correction = Correction(float(stored["intercept"]), **tables)
    return LatencyModel(_number(value["base_ms"]), coefficients, correction)
