"""The picture of the front: which accuracies its axis names."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_edge.report.drawing import LIGHT
from nas_edge.report.front_chart import front
from nas_edge.report.whole import StudyReport

from .made import hand_made


@pytest.mark.parametrize(
    ("accuracies", "named"),
    [
        ((0.942, 0.914), (0.91, 0.92, 0.93, 0.94)),  # none of the usual ones lies between
        ((0.99, 0.9), (0.9, 0.95, 0.98, 0.99)),
        ((1.0, 0.9), (0.9, 0.92, 0.94)),  # an error of none has no place on the scale
        ((0.935, 0.931), (0.925, 0.93, 0.935, 0.94)),
    ],
)
def test_the_axis_names_round_accuracies(
    tmp_path: Path, accuracies: tuple[float, ...], named: tuple[float, ...]
) -> None:
    stored = hand_made(tmp_path, [(accuracy, 1.0 + accuracy) for accuracy in accuracies])
    layer = front(StudyReport.of(stored), LIGHT)["layer"][-1]
    axis, scale = layer["encoding"]["y"]["axis"], layer["encoding"]["y"]["scale"]
    assert sorted(1 - error for error in axis["values"]) == pytest.approx(named)
    worst, best = scale["domain"]
    assert all(best <= error <= worst for error in axis["values"])
    assert all(best <= max(1 - accuracy, 0.05) <= worst for accuracy in accuracies)
