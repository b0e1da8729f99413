"""The picture of a trial: how its latency, size and accuracy changed step by step, as SVG."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nas_edge.records import Evaluation, Figures
from nas_edge.report.steps import PREDICTED

LABEL, PANEL, BAR, ROW, HEAD = 190, 220, 150, 24, 46  # pixels
CHANGED, STAYS, SHIPS, UNDONE = "#1f77b4", "#c6dbef", "#0b3d66", "#888888"
PANELS = (
    (f"latency (ms, {PREDICTED} predicted)", "latency_ms", "{:.3f}"),
    ("size (bytes)", "size_bytes", "{:,.0f}"),
    ("accuracy, validation", "accuracy", "{:.2%}"),
)
FIGURES = (*(name for _, name, _ in PANELS), "latency_source")


@dataclass(frozen=True)
class Row:
    """One row: what is known after a step, and which of it the step changed."""

    label: str
    figures: Figures
    changed: frozenset[str]
    undone: bool = False
    last: bool = False


def steps_picture(evaluation: Evaluation) -> str:
    """A row a step with a bar a figure: dark where the step changed it, pale where it stays, hollow where undone."""
    rows = _rows(evaluation)
    width, height = LABEL + PANEL * len(PANELS), HEAD + ROW * len(rows) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" fill="#222222">',
        "<title>What each step changed</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for i, row in enumerate(rows):
        y = HEAD + ROW * i
        weight = ' font-weight="bold"' if row.last else ""
        parts.append(f'<text x="12" y="{y + 15}"{weight}>{html.escape(row.label)}</text>')
    for i, (title, name, form) in enumerate(PANELS):
        parts += _panel(rows, LABEL + PANEL * i, title, name, form)
    parts.append(_legend(height - 12))
    return "\n".join([*parts, "</svg>"])


def _rows(evaluation: Evaluation) -> list[Row]:
    known: dict[str, Any] = dict.fromkeys(FIGURES)
    rows = []
    for number, step in enumerate(evaluation.steps, start=1):
        after = {name: getattr(step.after, name) for name in known}
        changed = frozenset(n for n, value in after.items() if value is not None and value != getattr(step.before, n))
        if step.undone:
            rows.append(Row(f"{number}  {step.technique}, undone", Figures(**after), changed, undone=True))
            continue
        known |= {name: value for name, value in after.items() if value is not None}
        rows.append(Row(f"{number}  {step.technique}, {step.stage}", Figures(**known), changed))
    ships = {name: getattr(evaluation, name) for name in FIGURES}
    return [*rows, Row("the file that ships", Figures(**ships), frozenset(FIGURES), last=True)]


def _panel(rows: Sequence[Row], x: int, title: str, name: str, form: str) -> list[str]:
    values = [getattr(row.figures, name) for row in rows]
    most = max((value for value in values if value is not None), default=0.0) or 1.0
    parts = [f'<text x="{x}" y="28" font-weight="bold">{title}</text>']
    for i, (row, value) in enumerate(zip(rows, values, strict=True)):
        y = HEAD + ROW * i
        if value is None:
            parts.append(f'<text x="{x}" y="{y + 15}" fill="{UNDONE}">-</text>')
            continue
        length = max(1.0, BAR * value / most)
        colour = SHIPS if row.last else CHANGED if name in row.changed else STAYS
        paint = f'fill="none" stroke="{UNDONE}" stroke-dasharray="3 2"' if row.undone else f'fill="{colour}"'
        parts.append(f'<rect x="{x}" y="{y + 3}" width="{length:.1f}" height="{ROW - 7}" {paint}/>')
        ink = f' fill="{UNDONE}"' if row.undone else ""
        mark = PREDICTED if name == "latency_ms" and row.figures.latency_source == "predicted" else ""
        parts.append(f'<text x="{x + length + 5:.1f}" y="{y + 15}"{ink}>{mark}{form.format(value)}</text>')
    return parts


def _legend(y: int) -> str:
    marks = (
        (f'fill="{CHANGED}"', "changed by this step"),
        (f'fill="{STAYS}"', "as before it"),
        (f'fill="none" stroke="{UNDONE}" stroke-dasharray="3 2"', "tried and undone"),
    )
    parts = []
    for i, (paint, text) in enumerate(marks):
        x = LABEL + PANEL * i
        parts.append(
            f'<rect x="{x}" y="{y - 10}" width="14" height="11" {paint}/><text x="{x + 20}" y="{y}">{text}</text>'
        )
    return "".join(parts)
