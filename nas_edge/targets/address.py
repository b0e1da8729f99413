"""How targets are named and told apart: addresses such as `local?threads=2`, and fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from nas_edge.contracts import Target
from nas_edge.errors import UserError, unknown_name

MAX_THREADS = 256
# These change from run to run, or do not matter at a fixed number of threads.
INCIDENTAL = frozenset({"affinity", "cores", "load"})


@dataclass(frozen=True)
class Address:
    """`scheme://place?option=value&...`; place and options may be missing."""

    scheme: str
    place: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Address:
        """Split an address. Raises `UserError` where an option has no value or comes twice."""
        before, _, query = text.partition("?")
        scheme, _, place = before.partition("://")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise UserError(f"target {text!r}: options are written ?name=value&name=value") from None
        options = dict(pairs)
        if len(options) < len(pairs):
            raise UserError(f"target {text!r}: an option is given twice; give it once")
        return cls(scheme, place, options)


def parse_threads(text: str) -> int:
    """The number of threads that an option names. Raises `UserError` unless it is within 1..256."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_THREADS:
        raise UserError(f"threads is {text!r}; give a whole number from 1 to {MAX_THREADS}, as in local?threads=2")
    return int(text)


def parse_target(targets: Mapping[str, Callable[[str], Target]], text: str) -> Target:
    """The target at an address, by the registered factory of its scheme. Raises `UserError`."""
    scheme = Address.parse(text).scheme
    if scheme not in targets:
        raise unknown_name("target", scheme, targets)
    return targets[scheme](text)


def essential(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a fingerprint that a latency depends on."""
    return {key: value for key, value in sorted(fingerprint.items()) if key not in INCIDENTAL}


def fingerprint_key(fingerprint: Mapping[str, Any]) -> str:
    """16 hex digits that are the same wherever a latency carries over."""
    text = json.dumps(essential(fingerprint), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(stored: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, in words: `threads 1, here 2`."""
    ours, theirs = essential(stored), essential(present)
    return [
        f"{key} {ours.get(key)}, here {theirs.get(key)}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]
