"""The picture of a trial: its bars are as long as the numbers say."""

from __future__ import annotations

from xml.etree import ElementTree

from nas_edge.records import Evaluation, Figures, StepRecord
from nas_edge.report.pictures import BAR, CHANGED, SHIPS, STAYS, steps_picture

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_as_long_as_the_figures_and_what_is_undone_is_hollow() -> None:
    whole = Figures(size_bytes=4000, latency_ms=0.4, latency_source="predicted", accuracy=0.9)
    cut = Figures(size_bytes=2000, latency_ms=0.1, latency_source="measured", accuracy=0.45)
    evaluation = Evaluation(
        key="k",
        accuracy=0.9,
        latency_ms=0.2,
        latency_low_ms=0.1,
        latency_high_ms=0.3,
        latency_source="measured",
        size_bytes=4000,
        parameters=10,
        macs=None,
        onnx_sha256="0",
        steps=(
            StepRecord("training", "train", 1.0, after=whole),
            StepRecord("<cut>", "structure", 1.0, before=whole, after=cut, undone="it lost too much"),
            StepRecord("distill", "objective", 1.0),
        ),
    )
    root = ElementTree.fromstring(steps_picture(evaluation))
    bars = [r for r in root.iter(f"{SVG}rect") if r.get("height") == "17"]
    sizes = bars[4:8]  # of the second of three panels, in the order of the rows
    assert [float(bar.attrib["width"]) for bar in sizes] == [BAR, BAR / 2, BAR, BAR]
    assert [bar.get("fill") for bar in sizes] == [CHANGED, "none", STAYS, SHIPS]
    assert [float(bar.attrib["width"]) for bar in bars[:4]] == [BAR, BAR / 4, BAR, BAR / 2]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "2  <cut>, undone" in texts and "~0.400" in texts and "0.100" in texts and "90.00%" in texts
