"""The pictures of a report as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas_edge.errors import StorageError, UserError
from nas_edge.report.charts import charts, waterfall
from nas_edge.report.drawing import LIGHT, Spec
from nas_edge.report.page import EXTRA
from nas_edge.report.whole import StudyReport

WIDTH, SCALE = 760, 2


def write_pictures(report: StudyReport, folder: Path) -> list[Path]:
    """Write one PNG a picture, and `trial-N.png` with the steps of each member of the front; returns the paths.

    Raises `UserError` where the package that draws is missing, and `StorageError` where the folder cannot be written.
    """
    specs = charts(report, LIGHT)
    specs |= {f"trial-{w.number}": waterfall(w.steps, LIGHT) for w in report.waterfalls if w.steps}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, spec in specs.items():
            paths.append(folder / f"{name}.png")
            paths[-1].write_bytes(png(spec))
        return paths
    except OSError as error:
        raise StorageError(f"cannot write into {folder}: {error.strerror}; choose another --pictures") from None


def png(spec: Spec) -> bytes:
    """A picture of `charts` on white, twice as fine as a screen. Raises `UserError` where the package is missing."""
    try:
        import vl_convert
    except ImportError:
        raise UserError(f"pictures need vl-convert-python; `{EXTRA}` installs it") from None
    fixed: dict[str, Any] = {**spec, "background": LIGHT["paper"], "padding": 10}
    if fixed.get("width") == "container":
        fixed["width"] = WIDTH
    return bytes(vl_convert.vegalite_to_png(fixed, scale=SCALE))
