"""PNG files, and the numbers in the charts that they are of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_edge.report.charts import charts
from nas_edge.report.drawing import CSS, LIGHT
from nas_edge.report.pictures import write_pictures
from nas_edge.report.whole import StudyReport

from .made import hand_made, made_study


def test_each_picture_is_drawn(tmp_path: Path) -> None:
    report = StudyReport.of(made_study(tmp_path, max_latency_ms=0.06))
    paths = write_pictures(report, tmp_path / "pictures")
    expected = {*charts(report, LIGHT), *(f"trial-{row.number}" for row in report.front)}
    assert {path.stem for path in paths} == expected
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert pixels.shape[1] > 1000
        assert (pixels[0, 0] == 255).all()  # on white
        blue = (pixels == (0x00, 0x72, 0xB2)).all(axis=2).sum()
        assert blue > 100, path.name


def test_colours_come_from_the_theme_alone(tmp_path: Path) -> None:
    report = StudyReport.of(made_study(tmp_path))
    text = json.dumps(charts(report, CSS))
    assert "#" not in text.replace("#/", "") and "var(--blue)" in text


def test_near_one_hundred_per_cent_errors_are_compared(tmp_path: Path) -> None:
    """A perfect candidate has a place on a logarithmic axis too: above the best that is not."""
    good = StudyReport.of(hand_made(tmp_path / "good", [(1.0, 2.0), (0.99, 1.0)]))
    points = charts(good, LIGHT)["front"]["layer"][-1]
    assert points["encoding"]["y"]["scale"]["type"] == "log"
    errors = {p["trial"]: p["error"] for p in points["data"]["values"]}
    assert errors == {"0": pytest.approx(0.005), "1": pytest.approx(0.01)}
    poor = StudyReport.of(hand_made(tmp_path / "poor", [(0.6, 2.0), (0.5, 1.0)]))
    scale = charts(poor, LIGHT)["front"]["layer"][-1]["encoding"]["y"]["scale"]
    assert "type" not in scale and scale["domain"][0] > 0.5 > 0.4 > scale["domain"][1]
