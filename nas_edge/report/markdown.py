"""The report in Markdown: the same tables without the pictures."""

from __future__ import annotations

from collections.abc import Sequence

from nas_edge.records import StepRecord
from nas_edge.report import words
from nas_edge.report.cells import FRONT, RECORD, front_cells, record_cells
from nas_edge.report.charts import decisions, predicted_pairs
from nas_edge.report.markdown_text import plain, table
from nas_edge.report.whole import StudyReport


def markdown(report: StudyReport) -> str:
    """Every line is text: names from outside are neither HTML nor the cells of a table."""
    lines = [f"# {plain(report.title)}", "", f"Study {plain(report.study)}, report of {report.made[:10]}.", ""]
    parts = (
        ("What was found", [f"- {plain(finding.text)}" for finding in report.findings]),
        ("Best trade-offs", _table(FRONT, [front_cells(row) for row in report.front])),
        ("Each technique over the whole study", _effects(report)),
        ("Predicted against measured latency", _predicted(report)),
        ("How the search advanced", _advances(report)),
        ("Which decisions mattered", _decisions(report)),
        ("Where the time of the best candidate goes", _layers(report)),
        *((title, _table(("", ""), list(values.items()))) for title, values in report.facts.items()),
        *((f"Trial {w.number}: what each step did", _steps(w.steps, w.missing)) for w in report.waterfalls),
    )
    for title, part in parts:
        lines += [f"## {title}", "", *(part or ["Nothing is known of that yet."]), ""]
    return "\n".join(lines)


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return table(titles, [[plain(value) for value in row] for row in rows]) if rows else []


def _effects(report: StudyReport) -> list[str]:
    titles = ("technique", "tried in", "undone in", "latency", "size", "accuracy", "candidates read")
    return _table(
        titles,
        [
            (
                e.name,
                e.tried,
                e.undone,
                words.signed(e.latency),
                words.signed(e.size),
                words.points(e.accuracy),
                e.stood,
            )
            for e in report.effects
        ],
    )


def _predicted(report: StudyReport) -> list[str]:
    pairs = [
        (p["trial"], p["kind"], words.ms(p["predicted_ms"]), words.ms(p["measured_ms"]), p["error"])
        for p in predicted_pairs(report)
    ]
    return _table(("trial", "which", "predicted", "measured", "error"), pairs)


def _advances(report: StudyReport) -> list[str]:
    searches = report.hypervolume.searches if report.hypervolume else ()
    rows = [
        (search.name, m.candidates, f"{m.seconds / 60:.1f}", words.percent(m.share), m.front)
        for search in searches
        for m in search.moments
    ]
    return _table(("search", "candidates", "minutes", "share of the hypervolume", "front"), rows)


def _decisions(report: StudyReport) -> list[str]:
    found = report.importance
    if found is None:
        return []
    rows = [
        (name, words.percent(found.accuracy.get(name, 0.0)), words.percent(found.latency_ms.get(name, 0.0)))
        for name in decisions(found)
    ]
    return _table(("decision", "for accuracy", "for latency"), rows)


def _layers(report: StudyReport) -> list[str]:
    found = report.layers
    if found is None or found.ms is None:
        return [f"Not known of trial {found.number}: {plain(found.missing)}."] if found else []
    rows = [
        (t.block, t.work, f"{1000 * t.ms:.3g} µs", words.percent(t.ms / found.ms), t.kernels, words.count(t.macs))
        for t in found.times
    ]
    return _table(("block", "work", "time", "share", "kernels", "multiply-adds"), rows)


def _steps(steps: Sequence[StepRecord], missing: str | None) -> list[str]:
    if missing:
        return [f"Its steps are not known: {plain(missing)}."]
    return _table(RECORD, record_cells(steps))
