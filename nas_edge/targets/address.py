"""How targets are named and told apart: addresses such as `local?threads=2`, registered names, and fingerprints."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from nas_edge.contracts import Target
from nas_edge.errors import UserError, unknown_name
from nas_edge.targets.names import load_names

MAX_THREADS = 256
# These change from run to run, or do not matter at a fixed number of threads.
INCIDENTAL = frozenset({"affinity", "cores", "load", "providers"})


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

    def __str__(self) -> str:
        place = f"://{self.place}" if self.place else ""
        query = urlencode(self.options, safe="/~", quote_via=quote)
        return f"{self.scheme}{place}{'?' if query else ''}{query}"


def parse_whole(option: str, text: str, top: int) -> int:
    """The whole number that an option is set to. Raises `UserError` unless it is within 1..`top`."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(top)) and 1 <= int(text) <= top):
        raise UserError(f"{option} is {text!r}; give a whole number from 1 to {top}")
    return int(text)


def parse_threads(text: str) -> int:
    """The number of threads that an option names. Raises `UserError` unless it is within 1..256."""
    return parse_whole("threads", text, MAX_THREADS)


def parse_target(targets: Mapping[str, Callable[[str], Target]], text: str) -> Target:
    """The target at an address, by the registered factory of its scheme; or of a registered name. Raises `UserError`.

    Options after a name replace those of its address: `board?threads=2`.
    """
    address = Address.parse(text)
    if address.scheme not in targets:
        address = _named(targets, address)
    return targets[address.scheme](str(address))


def _named(targets: Mapping[str, Callable[[str], Target]], address: Address) -> Address:
    names = load_names()
    if address.scheme not in names or address.place:
        raise unknown_name("target", address.scheme, {*targets, *names})
    found = Address.parse(names[address.scheme].address)
    if found.scheme not in targets:
        raise UserError(
            f"target {address.scheme!r} stands for {found}, and nothing offers {found.scheme!r}; install the plugin "
            f"that does, or forget it with `nas-edge targets remove {address.scheme}`"
        )
    return Address(found.scheme, found.place, {**found.options, **address.options})


def essential(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a fingerprint that a latency depends on."""
    return {key: value for key, value in sorted(fingerprint.items()) if key not in INCIDENTAL}


def cache_folder(name: str) -> Path:
    """Where files about devices are kept: under $XDG_CACHE_HOME, or ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "nas_edge" / name


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
