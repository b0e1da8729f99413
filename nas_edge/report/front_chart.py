"""The picture of the front: accuracy against latency, of all that a study knows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas_edge.report.drawing import NUMBER, Spec, Theme, chart, latency_scale
from nas_edge.report.points import FINISHED, FRONT, OVER, STOPPED, Candidate
from nas_edge.report.whole import Pair, StudyReport

RANDOM, GIVEN = "random search", "as it was given"
GOOD = 0.9  # an accuracy, above which errors are compared rather than accuracies
ACCURACIES = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)  # between the accuracies of an axis on which few of those lie
LEAST_TICKS, MOST_TICKS = 4, 7
BEYOND = 1.15  # times the largest and the least error
LATENCIES = 10  # along the axis, about


def _accuracy_axis(report: StudyReport) -> tuple[Spec, Spec, float]:
    """The scale and axis of errors, falling upwards, named by accuracy; and the least error that is shown.

    Near 100 % the error matters, so that its logarithm is shown.
    """
    known = [c.accuracy for c in report.points.candidates if c.accuracy is not None]
    extra = [pair.accuracy for pair in report.random_fronts] + ([report.given.accuracy] if report.given else [])
    known += [*extra, *([report.teacher_accuracy] if report.teacher_accuracy else [])]
    if not known or max(known) < GOOD:
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        margin = 0.06 * (high - low) or 0.02
        scale = {"domain": [min(1.0, 1 - low + margin), max(0.0, 1 - high - margin)], "zero": False, "nice": False}
        return scale, {"labelExpr": "format(1 - datum.value, '.0%')"}, 0.0
    least = min((1 - a for a in known if a < 1), default=0.01)
    if max(known) == 1:
        least /= 2  # where no error is shown: on this scale it has no place of its own
    worst, best = min(1.0, max(1 - a for a in known) * BEYOND), least / BEYOND
    scale = {"type": "log", "domain": [worst, best], "nice": False}
    return scale, {"values": _ticks(best, worst), "labelExpr": "format(1 - datum.value, '.2~%')"}, least


def _ticks(best: float, worst: float) -> list[float]:
    """Errors between the two that are round accuracies."""
    ticks = [1 - a for a in ACCURACIES if best <= 1 - a <= worst]
    if len(ticks) >= LEAST_TICKS:
        return ticks
    step = next((s for s in STEPS if (worst - best) / s < MOST_TICKS), STEPS[-1])
    return [round(k * step, 6) for k in range(math.ceil(best / step), math.floor(worst / step) + 1)]


def front(report: StudyReport, theme: Theme) -> Spec:
    """Accuracy against latency: the front, and muted behind it all that was evaluated, over the limit or stopped."""
    scale, axis, least = _accuracy_axis(report)
    values = [_point(c, least) for c in report.points.candidates]
    untrained = [v for v in values if v["error"] is None]
    shown = [v for v in values if v["error"] is not None]
    random = [_pair(p, RANDOM, least) for p in report.random_fronts]
    given = [_pair(report.given, GIVEN, least)] if report.given else []
    kinds = {v["kind"] for v in shown + random + given}
    known = {
        FRONT: (theme["blue"], "circle"),
        FINISHED: (theme["soft"], "circle"),
        OVER: (theme["pink"], "triangle-up"),
        STOPPED: (theme["soft"], "cross"),
        RANDOM: (theme["orange"], "diamond"),
        GIVEN: (theme["green"], "square"),
    }
    domain = [name for name in known if name in kinds]
    latencies = [v["latency_ms"] for v in (*values, *random, *given)]
    limit = report.max_latency_ms
    scale_x = latency_scale([*latencies, *([limit] if limit else [])])
    x = {
        "field": "latency_ms",
        "type": "quantitative",
        "title": "latency of one image, ms" + (" (logarithmic)" if scale_x["type"] == "log" else ""),
        "scale": scale_x,
        "axis": {"format": NUMBER, "labelOverlap": True, "tickCount": LATENCIES},
    }
    y = {
        "field": "error",
        "type": "quantitative",
        "title": "accuracy on validation",
        "scale": scale,
        "axis": axis,
    }
    colour = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": domain, "range": [known[name][0] for name in domain]},
        "legend": {},
    }
    shape = {**colour, "scale": {"domain": domain, "range": [known[name][1] for name in domain]}}
    tooltip = [
        {"field": field, "type": "nominal", "title": title}
        for field, title in (
            ("trial", "trial"),
            ("kind", "what it is"),
            ("accuracy", "accuracy"),
            ("latency", "latency"),
            ("size", "size"),
            ("techniques", "techniques"),
            ("why", "why"),
        )
    ]
    common = {"x": x, "y": y, "color": colour, "shape": shape}
    muted = [v for v in shown if v["kind"] != FRONT]
    members = [v for v in shown if v["kind"] == FRONT]
    layer: list[Spec] = []
    if untrained:
        ticks = {"x": x, "tooltip": tooltip[:2] + tooltip[3:]}
        place = {"y": {"value": {"expr": "height - 4"}}}
        mark = {"type": "tick", "orient": "vertical", "color": theme["soft"], "opacity": 0.6, "height": 8}
        layer.append({"data": {"values": untrained}, "mark": {**mark, "clip": True}, "encoding": {**ticks, **place}})
    if muted:
        mark = {"type": "point", "filled": True, "size": 28, "opacity": 0.45, "clip": True}
        layer.append({"data": {"values": muted}, "mark": mark, "encoding": {**common, "tooltip": tooltip}})
    if report.teacher_accuracy is not None and report.given is None:
        layer += _rule(theme, "y", max(1 - report.teacher_accuracy, least), "teacher", y)
    if limit is not None:
        layer += _rule(theme, "x", limit, f"limit {limit:g} ms", x)
    searches = [[_pair(p, RANDOM, least) for p in report.random_fronts if p.search == name] for name in _names(report)]
    for pairs, name in (*((pairs, "orange") for pairs in searches), (members, "blue")):
        line = {"type": "line", "interpolate": "step-after", "color": theme[name], "clip": True, "opacity": 0.8}
        line |= {"strokeDash": [4, 3]} if name == "orange" else {}
        if len(pairs) > 1:
            stairs = {"data": {"values": _stairs(pairs)}, "mark": line, "encoding": {"x": x, "y": y}}
            layer.append(stairs)
    if members:  # beneath the candidates, or the pointer would find it in their place
        interval = {"x": {**x, "field": "low_ms"}, "x2": {"field": "high_ms"}, "y": y}
        known_ones = [v for v in members if v["low_ms"] is not None]
        mark = {"type": "rule", "color": theme["blue"], "strokeWidth": 1.5, "clip": True}
        layer.append({"data": {"values": known_ones}, "mark": mark, "encoding": interval})
    for pairs, size in ((random, 60), (given, 130), (members, 110)):
        if pairs:
            mark = {"type": "point", "filled": True, "size": size, "opacity": 1, "clip": True}
            layer.append({"data": {"values": pairs}, "mark": mark, "encoding": {**common, "tooltip": tooltip}})
    return chart(theme, height=440, layer=layer)


def _names(report: StudyReport) -> list[str]:
    """Those of the random searches."""
    return list(dict.fromkeys(pair.search for pair in report.random_fronts))


def _point(c: Candidate, least: float) -> Spec:
    return {
        "trial": str(c.number),
        "kind": c.kind,
        "error": None if c.accuracy is None else max(1 - c.accuracy, least),
        "latency_ms": c.latency_ms,
        "low_ms": c.low_ms,
        "high_ms": c.high_ms,
        "accuracy": "not trained" if c.accuracy is None else f"{c.accuracy:.2%} on validation",
        "latency": latency_text(c.latency_ms, c.low_ms, c.high_ms, c.source),
        "size": "not known" if c.size_bytes is None else f"{c.size_bytes / 1000:,.1f} kB",
        "techniques": c.techniques,
        "why": c.why or "-",
    }


def _pair(pair: Pair, kind: str, least: float) -> Spec:
    return {
        "trial": f"{pair.number} of {pair.search}",
        "kind": kind,
        "error": max(1 - pair.accuracy, least),
        "latency_ms": pair.latency_ms,
        "accuracy": f"{pair.accuracy:.2%} on validation",
        "latency": f"{pair.latency_ms:.3g} ms",
        "size": "-",
        "techniques": "-",
        "why": "-",
    }


def latency_text(ms: float, low: float | None, high: float | None, source: str) -> str:
    """`0.142 ms (0.141 to 0.142, measured)`."""
    return f"{ms:.3g} ms ({source})" if low is None else f"{ms:.3g} ms ({low:.3g} to {high:.3g}, {source})"


def _stairs(points: Sequence[Spec]) -> list[Spec]:
    """Those that no other dominates, in the order of latency: the line between them."""
    found: list[Spec] = []
    for point in sorted(points, key=lambda p: (p["latency_ms"], p["error"])):
        if not found or point["error"] < found[-1]["error"]:
            found.append({"latency_ms": point["latency_ms"], "error": point["error"]})
    return found


def _rule(theme: Theme, axis: str, value: float, text: str, channel: Spec) -> list[Spec]:
    """A line across the picture with its name at one end."""
    data = {"values": [{channel["field"]: value, "text": text}]}
    line = {"type": "rule", "color": theme["ink"], "strokeDash": [6, 4], "clip": True, "opacity": 0.7}
    place = {"align": "right", "baseline": "bottom", "dx": -4, "dy": -3} if axis == "y" else {"align": "left", "dx": 5}
    other = {"x": {"value": "width"}} if axis == "y" else {"y": {"value": 8}}
    label = {"type": "text", "color": theme["ink"], "fontSize": 12, **place}
    return [
        {"data": data, "mark": line, "encoding": {axis: channel}},
        {"data": data, "mark": label, "encoding": {axis: channel, **other, "text": {"field": "text"}}},
    ]
