"""How fast a kind of device is, by its reference networks: what every later campaign there is held to.

A campaign sees its device in a state that lasts for minutes, and another one in another state: they differ by some per
cent in all their latencies. Latencies at one fixed speed can be compared.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nas_edge.errors import UserError
from nas_edge.files import read_json
from nas_edge.targets.address import cache_folder, fingerprint_key
from nas_edge.targets.references import CHANGED

FORMAT = "nas_edge anchor"


@dataclass(frozen=True)
class Anchor:
    """The usual time of each reference network in ms, and when that was found."""

    reference_ms: Mapping[str, float]
    made: str

    @classmethod
    def now(cls, reference_ms: Mapping[str, float]) -> Anchor:
        return cls(reference_ms, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))


def anchor_file(fingerprint: Mapping[str, Any]) -> Path:
    """Where the anchor of a device is kept."""
    return cache_folder("anchors") / f"{fingerprint_key(fingerprint)}-{CHANGED}.json"


def load_anchor(path: Path) -> Anchor | None:
    """The anchor in a file, if there is one. Raises `UserError` where the file is damaged."""
    try:
        value = read_json(path)
        return Anchor({str(name): _time(ms) for name, ms in value["reference_ms"].items()}, str(value["made"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{path}: not an anchor ({error}); remove it, and the next campaign writes it anew") from None


def save_first(path: Path, anchor: Anchor, target: str) -> None:
    """Write the file unless there is one; a reader never sees half of it.

    Where nothing can be written, the latencies are still good: later ones are just not held to them.
    """
    content = {"format": FORMAT, "target": target, "made": anchor.made, "reference_ms": dict(anchor.reference_ms)}
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        try:
            path.hardlink_to(temporary)  # fails where another campaign was quicker
        finally:
            temporary.unlink()


def _time(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{value!r} is no time in ms")
    return float(value)
