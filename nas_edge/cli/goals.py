"""A compression as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from nas_edge.cli.output import facts, table
from nas_edge.goals import DROP
from nas_edge.report.words import amount, asked

if TYPE_CHECKING:
    from nas_edge.report.compression import Compressed, Compression


def compression_view(found: Compression) -> RenderableType:
    """The goals, the model before and after, and where the files are."""
    from nas_edge.report.summary import counts, shown_url

    stored = found.stored
    where = {
        "trials": f"{counts(stored)['finished']} finished, at most {stored.config.trials}",
        "model": ", ".join(path.name for path in found.files) + f" in {stored.folder}" if found.files else None,
        "study": shown_url(stored),
        "next": f"nas-edge show {stored.folder}",
    }
    shown = {name: value for name, value in where.items() if value}
    return Group(_headline(found), "", goals_table(found), "", models_table(found), "", facts(shown))


def _headline(found: Compression) -> Text:
    missed = [goal for goal in found.goals if not goal.met]
    if [goal.name for goal in missed] == [DROP] and found.validation_drop <= missed[0].wanted:
        return Text(
            f"Met on validation, by which trial {found.best.number} was chosen, but not on the test split: it lost "
            f"{amount(missed[0].missing, 'points')} more than allowed there, where chance makes "
            f"{found.chance_points:.2f}. To have more to spare, run again with a smaller --max-drop.",
            "bold yellow",
        )
    if missed:
        said = ", ".join(f"{goal.name} misses by {amount(goal.missing, goal.unit)}" for goal in missed)
        return Text(f"Not met: {said}. Trial {found.best.number} comes closest.", "bold yellow")
    if not found.met:
        return Text("The goals are met by predicted latencies, which could not be measured.", "bold yellow")
    return Text(f"All goals are met by trial {found.best.number}.", "bold green")


def goals_table(found: Compression) -> RenderableType:
    shown = table("goal", ">wanted", ">reached", "", title="Goals")
    for goal in found.goals:
        verdict = "met" if goal.met else f"misses by {amount(goal.missing, goal.unit)}"
        if goal.name == DROP:
            verdict += f" on test (chance: {found.chance_points:.2f}); {found.validation_drop:.2f} on validation"
        shown.add_row(goal.name, asked(goal.name, goal.wanted, goal.unit), amount(goal.reached, goal.unit), verdict)
    return shown


def models_table(found: Compression) -> RenderableType:
    shown = table("model", ">trial", ">test", ">validation", ">latency ms", ">size kB", "techniques", title="Models")
    for name, row in (("as given", found.baseline), ("compressed", found.best)):
        shown.add_row(
            name,
            str(row.number),
            "-" if row.test_accuracy is None else f"{row.test_accuracy:.2%}",
            f"{row.accuracy:.2%}",
            f"{row.latency_ms:.3f}" + ("" if row.latency_source == "measured" else " predicted"),
            f"{row.size_bytes / 1000:.1f}",
            row.techniques,
        )
    shown.add_row("", "", "", "", _times(found.baseline, found.best), _smaller(found.baseline, found.best), "")
    return shown


def _times(given: Compressed, best: Compressed) -> str:
    return f"{given.latency_ms / best.latency_ms:.2f} x"


def _smaller(given: Compressed, best: Compressed) -> str:
    return f"{100 * (best.size_bytes / given.size_bytes - 1):+.1f} %"
