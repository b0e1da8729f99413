"""Studies and trials as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from nas_edge.cli.output import facts, table

if TYPE_CHECKING:
    from nas_edge.report.front import FrontRow
    from nas_edge.store.study import StoredStudy


def study_view(stored: StoredStudy, front: Sequence[FrontRow]) -> RenderableType:
    from nas_edge.report.audit import error_line, latency_audit
    from nas_edge.report.front import counts, shown_url

    shown = table(
        ">trial", ">accuracy", ">test", ">predicted ms", ">measured ms", ">size kB", "techniques", title="Pareto front"
    )
    for row in front:
        shown.add_row(
            str(row.number),
            f"{row.accuracy:.2%}" + ("*" if row.trained_longer else ""),
            "-" if row.test_accuracy is None else f"{row.test_accuracy:.2%}",
            _predicted(row),
            _interval(row) + ("" if row.within_budget else "  over the budget"),
            f"{row.size_bytes / 1000:.1f}",
            row.techniques,
        )
    state = counts(stored)
    ends = [
        f"{n} {label}" for label, n in state.items() if not label.startswith("with ") and (n or label == "finished")
    ]
    used = [f"{label.removeprefix('with ')} in {n}" for label, n in state.items() if label.startswith("with ")]
    where = {
        "trials": ", ".join(ends),
        "techniques": ", ".join(used) or "none was on",
        "latency error": error_line(latency_audit(stored)),
        "models": str(stored.folder / "models"),
        "study": shown_url(stored),
        "next": f"nas-edge export {stored.folder} TRIAL -o DIR",
    }
    notes = ["* trained for longer after the search"] if any(r.trained_longer for r in front) else []
    nothing = ["No finished trial meets the limits yet."] if not front else []
    return Group(*([shown] if front else nothing), *notes, "", facts(where))


def _predicted(row: FrontRow) -> str:
    if row.predicted_ms is None:
        return "-"
    return f"{row.predicted_ms:.3f}" + ("" if row.repredicted_ms is None else f" (now {row.repredicted_ms:.3f})")


def _interval(row: FrontRow) -> str:
    if row.measured_ms is None or row.measured_low_ms is None or row.measured_high_ms is None:
        return "-"
    return f"{row.measured_ms:.3f} ({row.measured_low_ms:.3f} to {row.measured_high_ms:.3f})"


def trial_view(payload: dict[str, Any]) -> RenderableType:

    evaluation = payload.get("evaluation")
    head = facts({k: payload[k] for k in ("study", "number", "state", "why") if payload[k] is not None})
    if not evaluation:
        return Group(head, "", facts(payload["params"]))
    steps = table("technique", "stage", ">seconds", ">parameters", ">bytes", "notes")
    for step in evaluation["steps"]:
        steps.add_row(
            step["technique"],
            step["stage"],
            f"{step['seconds']:.2f}",
            _change(step["parameters_before"], step["parameters_after"]),
            _change(step["bytes_before"], step["bytes_after"]),
            "; ".join(step["notes"]),
        )
    values = {k: v for k, v in evaluation.items() if k not in ("steps", "key")}
    return Group(head, "", facts(values), "", steps, "", facts(payload["spec"]["arch"]["params"]))


def _change(before: int | None, after: int | None) -> str:
    if before is None or after is None:
        return ""
    return f"{before:,}" if before == after else f"{before:,} -> {after:,}"
