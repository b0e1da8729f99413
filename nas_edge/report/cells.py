"""The front and the steps of a candidate as cells of a table, in words: for the Markdown report and the dashboard."""

from __future__ import annotations

from collections.abc import Sequence

from nas_edge.records import StepRecord
from nas_edge.report import words
from nas_edge.report.front import FrontRow

# The titles, as `markdown_text.table` has them.
FRONT = ("trial", ">validation", ">test", ">measured", ">predicted", ">size", "techniques")
STEPS = ("step", *(f">{title}" for _, title, *_ in words.FIGURES))
RECORD = (*STEPS, "said")


def front_cells(row: FrontRow) -> tuple[str, ...]:
    """A member of the front, under the titles `FRONT`."""
    return (
        str(row.number),
        words.percent(row.accuracy, 2) + (" (trained longer)" if row.trained_longer else ""),
        words.percent(row.test_accuracy, 2),
        words.interval(row.measured_ms, row.measured_low_ms, row.measured_high_ms)
        + (", may be wrong" if row.unstable_because else "")
        + ("" if row.within_budget else ", over the limit")
        + ("" if row.beaten_by is None else f", beaten by {row.beaten_by}"),
        words.ms(row.repredicted_ms or row.predicted_ms),
        words.size(row.size_bytes),
        words.techniques(row.techniques),
    )


def step_names(steps: Sequence[StepRecord]) -> list[str]:
    """`2. prune, structure`."""
    return [f"{i}. {s.technique}, {s.stage}" + (" (undone)" if s.undone else "") for i, s in enumerate(steps, 1)]


def step_cells(steps: Sequence[StepRecord]) -> list[tuple[str, ...]]:
    """A row a step, under the titles `STEPS`: each figure after it, and in brackets what it changed."""
    return [(name, *_figures(step)) for name, step in zip(step_names(steps), steps, strict=True)]


def record_cells(steps: Sequence[StepRecord]) -> list[tuple[str, ...]]:
    """The same under the titles `RECORD`: with what each step said, and why it was undone."""
    said = ("; ".join([*([f"undone: {step.undone}"] if step.undone else []), *step.notes]) for step in steps)
    return [(*cells, text) for cells, text in zip(step_cells(steps), said, strict=True)]


def _figures(step: StepRecord) -> list[str]:
    cells = []
    for name, _, form, more_is_better in words.FIGURES:
        before, after = getattr(step.before, name), getattr(step.after, name)
        changed = "" if after is None else words.change(before, after, more_is_better)
        source = ", measured" if name == "latency_ms" and step.after.latency_source == "measured" else ""
        cells.append(form(after) + source + (f" ({changed})" if changed else ""))
    return cells
