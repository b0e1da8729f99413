"""What all pictures of a report share: their colours, their axes and their numbers. They are Vega-Lite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Spec = dict[str, Any]
Theme = Mapping[str, str]

NAMES = ("ink", "soft", "line", "paper", "blue", "orange", "green", "pink", "yellow")
CSS: Theme = {name: f"var(--{name})" for name in NAMES}  # which the page sets, for light and for dark
# Okabe and Ito's colours, which the colour-blind tell apart.
LIGHT: Theme = {
    "ink": "#1d232b",
    "soft": "#8b939e",
    "line": "#dfe3e8",
    "paper": "#ffffff",
    "blue": "#0072b2",
    "orange": "#d55e00",
    "green": "#009e73",
    "pink": "#cc79a7",
    "yellow": "#e69f00",
}
DARK: Theme = {
    "ink": "#e8eaed",
    "soft": "#8f98a3",
    "line": "#343a42",
    "paper": "#16191d",
    "blue": "#56b4e9",
    "orange": "#f0883e",
    "green": "#3fc79a",
    "pink": "#e39ac4",
    "yellow": "#f0c04a",
}
NUMBER = ",.4~r"  # four digits, and no powers of ten
FONT = "system-ui, sans-serif"
WIDE = 6  # from so many times the smallest on, an axis is logarithmic


def chart(theme: Theme, *, height: int, **parts: Any) -> Spec:
    axis = {
        "labelColor": theme["ink"],
        "titleColor": theme["ink"],
        "gridColor": theme["line"],
        "domainColor": theme["soft"],
        "tickColor": theme["soft"],
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titlePadding": 8,
        "labelLimit": 190,
    }
    legend = {
        "labelColor": theme["ink"],
        "orient": "top",
        "title": None,
        "columns": {"expr": "width < 480 ? 2 : 3"},
        "symbolSize": 80,
        "symbolOpacity": 1,
        "labelFontSize": 12,
        "labelLimit": 260,
    }
    config = {"axis": axis, "legend": legend, "view": {"stroke": None}, "font": FONT, "aria": False}
    return {
        "width": "container",
        "height": height,
        "background": None,
        "autosize": {"type": "fit", "contains": "padding"},
        "config": config,
        **parts,
    }


def latency_scale(values: Sequence[float]) -> Spec:
    """Logarithmic where the latencies span a wide range."""
    low, high = min(values), max(values)
    if low > 0 and high / low >= WIDE:
        return {"type": "log", "domain": [low / 1.15, high * 1.15], "nice": False}
    margin = 0.06 * (high - low) or 0.1 * high
    return {"type": "linear", "domain": [max(0.0, low - margin), high + margin], "nice": False, "zero": False}
