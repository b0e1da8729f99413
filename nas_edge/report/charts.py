"""The pictures of a report: the page draws them in the browser, and `pictures` writes them as PNG."""

from __future__ import annotations

from collections.abc import Sequence

from nas_edge.records import StepRecord
from nas_edge.report.cells import step_names
from nas_edge.report.drawing import NUMBER, Spec, Theme, chart, latency_scale
from nas_edge.report.front_chart import front
from nas_edge.report.importance import Importances
from nas_edge.report.layers import WORKS, Layers
from nas_edge.report.points import FRONT
from nas_edge.report.whole import StudyReport

MOST_DECISIONS = 15


def charts(report: StudyReport, theme: Theme) -> dict[str, Spec]:
    """Those that the study has data for, by name."""
    made = {"front": front(report, theme)} if report.points.candidates else {}
    if report.audit is not None and predicted_pairs(report):
        made["predicted"] = predicted(report, theme)
    if report.hypervolume is not None:
        made["hypervolume"] = hypervolume(report, theme, "candidates", "candidates evaluated")
        if report.hypervolume.searches[0].moments[-1].seconds > 0:
            made["hypervolume-time"] = hypervolume(report, theme, "minutes", "minutes spent on trials")
    if report.importance is not None:
        made["importance"] = importance(report.importance, theme)
    if report.layers is not None and report.layers.times:
        made["layers"] = layers(report.layers, theme)
    return made


def predicted_pairs(report: StudyReport) -> list[Spec]:
    """What was predicted and what was measured: of random candidates, and of the front."""
    random = report.audit["models"] if report.audit else []
    numbers = {model["trial"] for model in random}
    pairs: list[tuple[int, str, float, float, float | None, float | None]]
    pairs = [(m["trial"], "random candidate", m["predicted_ms"], m["measured_ms"], None, None) for m in random]
    pairs += [
        (r.number, FRONT, r.repredicted_ms or r.predicted_ms, r.measured_ms, r.measured_low_ms, r.measured_high_ms)
        for r in report.front
        if (r.predicted_ms and r.measured_ms) and r.number not in numbers
    ]
    return [
        {
            "trial": str(number),
            "kind": kind,
            "predicted_ms": said,
            "measured_ms": seen,
            "low_ms": low,
            "high_ms": high,
            "error": f"{said / seen - 1:+.1%}",
        }
        for number, kind, said, seen, low, high in pairs
    ]


def predicted(report: StudyReport, theme: Theme) -> Spec:
    """Predicted against measured, the line where both agree, and the stated error around it."""
    pairs = predicted_pairs(report)
    values = [v for pair in pairs for v in (pair["predicted_ms"], pair["measured_ms"])]
    scale, low, high = latency_scale(values), min(values) / 1.2, max(values) * 1.2
    stated = report.audit["stated"]["q90"] if report.audit else 0.0
    steps = [low * (high / low) ** (i / 40) for i in range(41)]
    # predicted / measured - 1 is the error
    band = [{"measured_ms": ms, "low": ms * (1 - stated), "high": ms * (1 + stated)} for ms in steps]
    diagonal = [{"measured_ms": ms, "predicted_ms": ms} for ms in (low, high)]
    shared = {"type": "quantitative", "scale": scale, "axis": {"format": NUMBER, "labelOverlap": True, "tickCount": 6}}
    x = {"field": "measured_ms", "title": "measured, ms", **shared}
    y = {"field": "predicted_ms", "title": "predicted, ms", **shared}
    kinds = [kind for kind in (FRONT, "random candidate") if any(p["kind"] == kind for p in pairs)]
    looks = {FRONT: (theme["blue"], "circle"), "random candidate": (theme["orange"], "diamond")}
    colour = {"field": "kind", "type": "nominal", "scale": {"domain": kinds, "range": [looks[k][0] for k in kinds]}}
    shape = {**colour, "scale": {"domain": kinds, "range": [looks[k][1] for k in kinds]}}
    tooltip = [
        {"field": "trial", "type": "nominal"},
        {"field": "kind", "type": "nominal", "title": "what it is"},
        {"field": "predicted_ms", "type": "quantitative", "format": ".3~g", "title": "predicted, ms"},
        {"field": "measured_ms", "type": "quantitative", "format": ".3~g", "title": "measured, ms"},
        {"field": "error", "type": "nominal", "title": "error"},
    ]
    area = {"type": "area", "color": theme["soft"], "opacity": 0.18, "clip": True}
    line = {"type": "line", "color": theme["soft"], "strokeDash": [5, 4], "clip": True}
    interval = {"x": {**x, "field": "low_ms"}, "x2": {"field": "high_ms"}, "y": y}
    measured = [p for p in pairs if p["low_ms"] is not None]
    layer: list[Spec] = [
        {
            "data": {"values": band},
            "mark": area,
            "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
        },
        {"data": {"values": diagonal}, "mark": line, "encoding": {"x": x, "y": y}},
        {
            "data": {"values": measured},
            "mark": {"type": "rule", "color": theme["blue"], "clip": True},
            "encoding": interval,
        },
        {
            "data": {"values": pairs},
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 0.9},
            "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": tooltip},
        },
    ]
    return chart(theme, height=320, layer=layer)


def hypervolume(report: StudyReport, theme: Theme, unit: str, title: str) -> Spec:
    """The share of the hypervolume that each search had found, by candidates or by minutes."""
    assert report.hypervolume is not None
    searches = report.hypervolume.searches
    values = [
        {
            "search": "random search" if s.random else f"this search ({s.name})",
            "run": s.name,
            "candidates": m.candidates,
            "minutes": m.seconds / 60,
            "share": m.share,
            "front": m.front,
        }
        for s in searches
        for m in s.moments
    ]
    domain = list(dict.fromkeys(v["search"] for v in values))
    colours = [theme["orange"] if name == "random search" else theme["blue"] for name in domain]
    dashes = [[4, 3] if name == "random search" else [1, 0] for name in domain]
    encoding = {
        "x": {
            "field": unit,
            "type": "quantitative",
            "title": title,
            "axis": {"format": "~s", "tickMinStep": 1, "tickCount": 5},
        },
        "y": {
            "field": "share",
            "type": "quantitative",
            "title": "share of the hypervolume",
            "axis": {"format": ".0%"},
            "scale": {"domain": [0, 1]},
        },
        "color": {"field": "search", "type": "nominal", "scale": {"domain": domain, "range": colours}},
        "strokeDash": {"field": "search", "type": "nominal", "scale": {"domain": domain, "range": dashes}},
        "detail": {"field": "run", "type": "nominal"},
        "tooltip": [
            {"field": "search", "type": "nominal"},
            {"field": "candidates", "type": "quantitative", "format": ",", "title": "candidates"},
            {"field": "minutes", "type": "quantitative", "format": ".1f", "title": "minutes"},
            {"field": "share", "type": "quantitative", "format": ".1%", "title": "share"},
            {"field": "front", "type": "quantitative", "title": "members of the front"},
        ],
    }
    mark = {"type": "line", "interpolate": "step-after", "strokeWidth": 2}
    return chart(theme, height=280, data={"values": values}, mark=mark, encoding=encoding)


def importance(found: Importances, theme: Theme) -> Spec:
    """The decisions that mattered most, for accuracy and for latency side by side."""
    accuracy, latency = "for accuracy", "for latency"
    names = decisions(found)
    values = [
        {"decision": name, "of": of, "share": shares.get(name, 0.0)}
        for name in names
        for of, shares in ((accuracy, found.accuracy), (latency, found.latency_ms))
    ]
    colours = {"domain": [accuracy, latency], "range": [theme["blue"], theme["yellow"]]}
    encoding = {
        "y": {"field": "decision", "type": "nominal", "sort": names, "title": None},
        "yOffset": {"field": "of", "type": "nominal", "sort": [accuracy, latency]},
        "x": {"field": "share", "type": "quantitative", "title": "share", "axis": {"format": ".0%", "tickCount": 5}},
        "color": {"field": "of", "type": "nominal", "scale": colours},
        "tooltip": [
            {"field": "decision", "type": "nominal"},
            {"field": "of", "type": "nominal"},
            {"field": "share", "type": "quantitative", "format": ".1%"},
        ],
    }
    return chart(theme, height=90 + 27 * len(names), data={"values": values}, mark="bar", encoding=encoding)


def decisions(found: Importances) -> list[str]:
    """The names of those that mattered most for either, the first first."""
    most = {
        n: max(found.accuracy.get(n, 0.0), found.latency_ms.get(n, 0.0)) for n in (*found.accuracy, *found.latency_ms)
    }
    return sorted(most, key=lambda n: -most[n])[:MOST_DECISIONS]


def layers(found: Layers, theme: Theme) -> Spec:
    """Where the winner's time goes: a bar a block, in the network's order, coloured by work."""
    blocks = list(dict.fromkeys(t.block for t in found.times))
    works = [work for work in WORKS if any(t.work == work for t in found.times)]
    colours = dict(zip(WORKS, ("blue", "orange", "green", "yellow", "pink", "soft"), strict=True))
    values = [
        {
            "block": t.block,
            "work": t.work,
            "us": 1000 * t.ms,
            "share": t.ms / found.ms if found.ms else 0.0,
            "kernels": t.kernels,
            "order": WORKS.index(t.work),
        }
        for t in found.times
    ]
    scale = {"domain": works, "range": [theme[colours[work]] for work in works]}
    encoding = {
        "y": {"field": "block", "type": "nominal", "sort": blocks, "title": None},
        "x": {
            "field": "us",
            "type": "quantitative",
            "title": "predicted time, µs",
            "stack": "zero",
            "axis": {"tickCount": 5},
        },
        "color": {"field": "work", "type": "nominal", "scale": scale},
        "order": {"field": "order"},
        "tooltip": [
            {"field": "block", "type": "nominal"},
            {"field": "work", "type": "nominal"},
            {"field": "us", "type": "quantitative", "format": ".3~g", "title": "µs"},
            {"field": "share", "type": "quantitative", "format": ".1%", "title": "of the whole"},
            {"field": "kernels", "type": "quantitative"},
        ],
    }
    return chart(theme, height=95 + 22 * len(blocks), data={"values": values}, mark="bar", encoding=encoding)


def waterfall(steps: Sequence[StepRecord], theme: Theme) -> Spec:
    """Latency, size and accuracy of one candidate from step to step, side by side."""
    names = step_names(steps)
    panels = []
    for field, title, factor in (
        ("latency_ms", "latency, ms", 1.0),
        ("size_bytes", "size, kB", 1e-3),
        ("accuracy", "accuracy, %", 100.0),
    ):
        values = []
        for name, step in zip(names, steps, strict=True):
            before, after = getattr(step.before, field), getattr(step.after, field)
            if after is None:
                continue
            before = after if before is None else before
            better = after <= before if field != "accuracy" else after >= before
            kind = "undone" if step.undone else "better or the same" if better else "worse"
            values.append({"step": name, "low": before * factor, "high": after * factor, "kind": kind})
        ends = [value for v in values for value in (v["low"], v["high"])] or [0.0, 1.0]
        margin = 0.08 * (max(ends) - min(ends)) or 0.05 * max(map(abs, ends)) or 1.0
        domain = [min(ends) - margin, max(ends) + margin]
        if field == "accuracy":
            domain[1] = min(100.0, domain[1])
        kinds = ["better or the same", "worse", "undone"]
        encoding: Spec = {
            "y": {
                "field": "step",
                "type": "nominal",
                "sort": names,
                "title": None,
                "scale": {"domain": names},
                "axis": {"labels": field == "latency_ms", "ticks": False, "labelLimit": 220},
            },
            "x": {
                "field": "low",
                "type": "quantitative",
                "title": title,
                "scale": {"domain": domain, "zero": False, "nice": False},
                "axis": {"tickCount": 4, "format": NUMBER, "labelOverlap": True, "labelSeparation": 8},
            },
            "x2": {"field": "high"},
            "color": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": kinds, "range": [theme["blue"], theme["orange"], theme["soft"]]},
            },
        }
        bars = {"mark": {"type": "bar", "height": 12, "minBandSize": 2}, "encoding": encoding}
        dots: Spec = {
            "mark": {"type": "tick", "thickness": 3, "height": 14},
            "encoding": {**encoding, "x": {**encoding["x"], "field": "high"}},
        }
        del dots["encoding"]["x2"]
        panels.append({"width": 190, "height": {"step": 24}, "data": {"values": values}, "layer": [bars, dots]})
    made = chart(theme, height=0, hconcat=panels)
    made["config"]["legend"]["columns"] = 3
    return {k: v for k, v in made.items() if k not in ("width", "height", "autosize")}
