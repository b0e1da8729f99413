"""The report as one HTML page that needs no network, from `page.html`, `page.css` and `page.js`."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from nas_edge.errors import UserError
from nas_edge.records import StepRecord
from nas_edge.report import words
from nas_edge.report.charts import charts, decisions, predicted_pairs
from nas_edge.report.drawing import CSS, DARK, LIGHT
from nas_edge.report.waterfall import Waterfall
from nas_edge.report.whole import StudyReport

EXTRA = "pip install 'nas-edge[report]'"


@dataclass(frozen=True)
class Bar:
    """A figure of one step: what it was and became, and where its bar lies in per cent of the cell's width."""

    text: str
    change: str
    left: float
    width: float
    kind: str


def page(report: StudyReport) -> str:
    """The page. Raises `UserError` where the packages that draw it are missing."""
    try:
        import jinja2
        import vl_convert
    except ImportError as error:
        raise UserError(
            f"an HTML report needs {error.name}; `{EXTRA}` installs it, and --format md or json does without"
        ) from None
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= words.FILTERS
    source = files(__package__)
    template = environment.from_string(source.joinpath("page.html").read_text(encoding="utf-8"))
    scripts = [
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        source.joinpath("page.js").read_text(encoding="utf-8"),
    ]
    scripts = [script.replace("</script", "<\\/script") for script in scripts]
    drawn = charts(report, CSS)
    html: str = template.render(
        report=report,
        rows=report.front,
        waterfalls=[(w, waterfall_rows(w)) for w in report.waterfalls],
        stepped={waterfall.number for waterfall in report.waterfalls},
        figures=[title for _, title, *_ in words.FIGURES],
        pairs=predicted_pairs(report),
        decisions=decisions(report.importance) if report.importance else [],
        drawn=drawn,
        charts=embedded(drawn),
        policy=_policy(scripts),
        scripts=scripts,
        style=source.joinpath("page.css").read_text(encoding="utf-8"),
        light=LIGHT,
        dark=DARK,
        winner=next((row for row in report.front if row.number == report.winner), None),
    )
    return html


def embedded(value: Any) -> str:
    """JSON within a script element: nothing in it ends the element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _policy(scripts: Sequence[str]) -> str:
    """What a browser may do with the page: run these scripts and no other, and load nothing from anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)  # Vega compiles its expressions, hence unsafe-eval
    return f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"


def waterfall_rows(waterfall: Waterfall) -> list[tuple[StepRecord, list[Bar | None]]]:
    """Each step with a bar for each figure, all of one figure to one scale; None where a step says nothing of it."""
    columns = [_bars(waterfall.steps, *figure) for figure in words.FIGURES]
    return [(step, [column[i] for column in columns]) for i, step in enumerate(waterfall.steps)]


def _bars(
    steps: Sequence[StepRecord], name: str, _title: str, form: Callable[[Any], str], more_is_better: bool
) -> list[Bar | None]:
    pairs = [(getattr(step.before, name), getattr(step.after, name)) for step in steps]
    known = [value for pair in pairs for value in pair if value is not None]
    if not known:
        return [None] * len(pairs)
    # Accuracies are near each other, and what is between them counts; of the rest, the share of the whole.
    low, high = (min(known), max(known)) if more_is_better else (0.0, max(known))
    span = (high - low) or 1.0
    bars: list[Bar | None] = []
    for step, (before, after) in zip(steps, pairs, strict=True):
        if after is None:
            bars.append(None)
            continue
        start = after if before is None else before
        left, right = sorted((100 * (start - low) / span, 100 * (after - low) / span))
        gained = after - start if more_is_better else start - after
        kind = "undone" if step.undone else "same" if not gained else "better" if gained > 0 else "worse"
        text = form(after) if before is None or form(before) == form(after) else f"{form(before)} → {form(after)}"
        changed = words.change(before, after, more_is_better)
        if changed and name == "latency_ms" and step.after.latency_source == "measured":
            changed += " (measured)"
        bars.append(Bar(text, changed, left, max(right - left, 1.5), kind))
    return bars
