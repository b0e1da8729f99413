"""What a candidate is, as data: frozen, JSON, with a stable key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

ENABLED = "enabled"  # ends the name of the decision whether a technique is on
JOINED, NONE = " + ", "none"

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True)
class ArchSpec:
    """One architecture of a search space: what `SearchSpace.build` is called with."""

    space: str
    version: int
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One technique that is on in a candidate, with its config as JSON."""

    technique: str
    version: int
    config: Mapping[str, Any]


@dataclass(frozen=True)
class CandidateSpec:
    """An architecture and the techniques applied to it, in the engine's order."""

    arch: ArchSpec
    steps: tuple[Step, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "arch": {"space": self.arch.space, "version": self.arch.version, "params": dict(self.arch.params)},
            "steps": [{"technique": s.technique, "version": s.version, "config": dict(s.config)} for s in self.steps],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CandidateSpec:
        """Rebuild a spec. Raises KeyError or TypeError where the value is not one that `to_json` wrote."""
        arch = value["arch"]
        return cls(
            ArchSpec(arch["space"], arch["version"], dict(arch["params"])),
            tuple(Step(s["technique"], s["version"], dict(s["config"])) for s in value["steps"]),
        )

    @property
    def key(self) -> str:
        """16 hex digits that are the same for equal specs, in every process and on every machine."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def without(self, techniques: Collection[str]) -> CandidateSpec:
        """The same with these techniques off."""
        return replace(self, steps=tuple(s for s in self.steps if s.technique not in techniques))

    @property
    def summary(self) -> str:
        """The techniques in words, for a table: `prune + quantize`, or `none`."""
        return in_words(s.technique for s in self.steps)


def in_words(techniques: Iterable[str]) -> str:
    """As they are stored and shown: `prune + quantize`, or `none`."""
    return JOINED.join(techniques) or NONE


def from_words(text: str) -> list[str]:
    """The names that `in_words` joined."""
    return [] if text == NONE else text.split(JOINED)
