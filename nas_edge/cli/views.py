"""Studies and trials as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas_edge.cli.goals import goals_table
from nas_edge.cli.output import facts, table
from nas_edge.report.selection import State

if TYPE_CHECKING:
    from nas_edge.report.compression import Compression
    from nas_edge.report.front import FrontRow
    from nas_edge.store.study import StoredStudy

# What the record of a trial shows of each step: title, figure, format.
FIGURES = (
    ("parameters", "parameters", "{:,}"),
    ("MACs", "macs", "{:,}"),
    ("bytes", "size_bytes", "{:,}"),
    ("compressed", "compressed_bytes", "{:,}"),
    ("ms", "latency_ms", "{:.3f}"),
    ("accuracy", "accuracy", "{:.2%}"),
)
PREDICTED = "~"  # before a latency that was not measured


def front_table(front: Sequence[FrontRow], of: int) -> RenderableType:
    """Members of the front, which has so many."""
    if not of:
        return "No finished trial meets the limits yet."
    shown = table(
        ">trial",
        ">accuracy",
        ">test",
        ">predicted ms",
        ">measured ms",
        ">size kB",
        "techniques",
        title=_title("Pareto front", front, of),
    )
    for row in front:
        shown.add_row(
            str(row.number),
            f"{row.accuracy:.2%}" + ("*" if row.trained_longer else ""),
            "-" if row.test_accuracy is None else f"{row.test_accuracy:.2%}",
            _predicted(row),
            _interval(row) + _standing(row),
            f"{row.size_bytes / 1000:.1f}",
            row.techniques,
        )
    notes = ["* trained for longer after the search"] if any(r.trained_longer for r in front) else []
    return Group(shown, *notes)


def _standing(row: FrontRow) -> str:
    """Why a member of the front is not to be taken."""
    if not row.within_budget:
        return "  over the budget"
    return "" if row.beaten_by is None else f"  beaten by {row.beaten_by}"


def trials_table(trials: Sequence[Mapping[str, Any]], of: int) -> RenderableType:
    """Trials of so many, as the search saw them: those that did not end well with the reason."""
    if not of:
        return "There is no trial yet."
    title = _title("Trials", trials, of)
    shown = table(
        ">trial", "state", ">accuracy", ">latency ms", ">measured ms", ">size kB", "techniques, or why", title=title
    )
    for row in trials:
        shown.add_row(
            str(row["number"]),
            State.of(row["state"]),
            _or_dash(row["accuracy"], "{:.2%}"),
            _or_dash(row["latency_ms"], "{:.3f}"),
            _or_dash(row["measured_ms"], "{:.3f}"),
            _or_dash(row["size_bytes"], "{:,.1f}", 1 / 1000),
            Text(row["why"], "dim") if row["why"] else Text(row["techniques"] or "-"),
        )
    return shown


def _title(what: str, shown: Sequence[object], of: int) -> str:
    return what if len(shown) == of else f"{what}: {len(shown)} of {of}"


def _or_dash(value: float | None, form: str, scale: float = 1) -> str:
    return "-" if value is None else form.format(value * scale)


def study_view(stored: StoredStudy, shown: RenderableType, compression: Compression | None = None) -> RenderableType:
    """Its goals, what is shown of it, and where it stands."""
    from nas_edge.report.audit import error_line, latency_audit
    from nas_edge.report.baseline import baseline_of, describe
    from nas_edge.report.summary import counts, shown_url

    state, baseline = counts(stored), baseline_of(stored)
    ends = [
        f"{n} {label}" for label, n in state.items() if not label.startswith("with ") and (n or label == "finished")
    ]
    used = [f"{label.removeprefix('with ')} in {n}" for label, n in state.items() if label.startswith("with ")]
    where = {
        "trials": ", ".join(ends),
        "techniques": ", ".join(used) or "none was on",
        "latency error": error_line(latency_audit(stored)),
        **({} if baseline is None else {"hypervolume": describe(baseline)}),
        "models": str(stored.folder / "models"),
        "study": shown_url(stored),
        "next": f"nas-edge export {stored.folder} TRIAL -o DIR",
    }
    goals = [goals_table(compression), ""] if compression else []
    return Group(*goals, shown, "", facts(where))


def _predicted(row: FrontRow) -> str:
    if row.predicted_ms is None:
        return "-"
    return f"{row.predicted_ms:.3f}" + ("" if row.repredicted_ms is None else f" (now {row.repredicted_ms:.3f})")


def _interval(row: FrontRow) -> str:
    if row.measured_ms is None or row.measured_low_ms is None or row.measured_high_ms is None:
        return "-"
    return f"{row.measured_ms:.3f} ({row.measured_low_ms:.3f} to {row.measured_high_ms:.3f})"


def trial_view(payload: dict[str, Any]) -> RenderableType:
    """One trial: what it is, its record step by step with before -> after, and why steps were undone."""
    evaluation = payload.get("evaluation")
    head = facts({k: payload[k] for k in ("study", "number", "state", "why") if payload[k] is not None})
    if not evaluation:
        return Group(head, "", facts(payload["params"]))
    values = {k: v for k, v in evaluation.items() if k not in ("steps", "key")}
    architecture = facts(payload["spec"]["arch"]["params"])
    return Group(head, "", facts(values), "", steps_table(evaluation["steps"]), *_notes(evaluation), "", architecture)


def steps_table(steps: Sequence[Mapping[str, Any]]) -> Table:
    """The record: a row a step, `before -> after` where it changed something, one number where it did not."""
    columns = [f">{title}" for title, _, _ in FIGURES]
    shown = table("", "technique", "stage", *columns, ">seconds", title=f"Steps ({PREDICTED} predicted)")
    for number, step in enumerate(steps, start=1):
        cells = [_change(step, name, form) for _, name, form in FIGURES]
        style = "dim" if step["undone"] else ""
        mark = "x" if step["undone"] else ""
        shown.add_row(
            f"{number}{mark}", step["technique"], step["stage"], *cells, f"{step['seconds']:.2f}", style=style
        )
    return shown


def _notes(evaluation: Mapping[str, Any]) -> list[str | Text]:
    """What the steps said, and why those marked with an x were undone; without numbers, nothing."""
    lines: list[str | Text] = []
    for number, step in enumerate(evaluation["steps"], start=1):
        if step["undone"]:
            lines.append(Text(f"{number}x {step['technique']} is undone: {step['undone']}", "yellow"))
        if step["notes"]:
            lines.append(Text(f"{number}  {step['technique']}: {'; '.join(step['notes'])}"))
    return ["", *lines] if lines else []


def _change(step: Mapping[str, Any], name: str, form: str) -> str:
    """`before -> after`; what is not known is a dash."""
    old, new = (_figure(step[side], name, form) for side in ("before", "after"))
    return old if old == new else f"{old} -> {new}"


def _figure(figures: Mapping[str, Any], name: str, form: str) -> str:
    if figures[name] is None:
        return "-"
    mark = PREDICTED if name == "latency_ms" and figures["latency_source"] == "predicted" else ""
    return mark + form.format(figures[name])
