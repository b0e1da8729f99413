"""The record of a candidate as rows of text: what `show STUDY TRIAL` prints and the note of a trial holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# What a row shows of a step: title, figure, format.
FIGURES = (
    ("parameters", "parameters", "{:,}"),
    ("MACs", "macs", "{:,}"),
    ("bytes", "size_bytes", "{:,}"),
    ("compressed", "compressed_bytes", "{:,}"),
    ("ms", "latency_ms", "{:.3f}"),
    ("accuracy", "accuracy", "{:.2%}"),
)


PREDICTED = "~"  # before a latency that was not measured


def step_rows(steps: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row a step: its number, with an x where it was undone, technique, stage, the figures, seconds.

    A figure reads `before -> after` where it changed, is one number where it did not, and a dash where it is not known.
    """
    return [
        [
            f"{number}x" if step["undone"] else str(number),
            step["technique"],
            step["stage"],
            *(_change(step, name, form) for _, name, form in FIGURES),
            f"{step['seconds']:.2f}",
        ]
        for number, step in enumerate(steps, start=1)
    ]


def _change(step: Mapping[str, Any], name: str, form: str) -> str:
    old, new = (_figure(step[side], name, form) for side in ("before", "after"))
    return old if old == new else f"{old} -> {new}"


def _figure(figures: Mapping[str, Any], name: str, form: str) -> str:
    if figures[name] is None:
        return "-"
    mark = PREDICTED if name == "latency_ms" and figures["latency_source"] == "predicted" else ""
    return mark + form.format(figures[name])
