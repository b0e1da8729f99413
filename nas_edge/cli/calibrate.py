"""`nas-edge calibrate`: the latency predictor of a target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_edge.cli.inspect import JsonFlag


def calibrate(
    target: Annotated[str, typer.Option(help="Device; local, or local?threads=2.")] = "local",
    space: Annotated[str, typer.Option(help="Search space whose networks are measured.")] = "mobilenet",
    data: Annotated[str, typer.Option(help="Data set whose image size is calibrated for.")] = "digits",
    minutes: Annotated[float, typer.Option(help="Time to spend.", min=0.1, max=600)] = 1.25,
    output: Annotated[Path | None, typer.Option("-o", help="Also write the profile to this file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure random networks of a space on a target, and fit the latency predictor to them."""
    from nas_edge.cli.output import emit, facts
    from nas_edge.cli.progress import live_progress
    from nas_edge.config import make_config
    from nas_edge.engine.session import Session
    from nas_edge.plugins import load_plugins

    options = {"target": target, "space": space, "data": data, "calibration_seconds": minutes * 60}
    session = Session.open(make_config(None, options), load_plugins())
    with live_progress() as progress:
        profile = session.calibrate(minutes * 60, progress)
    paths = profile.keep()
    if output:
        profile.save(output)
        paths.append(output)
    payload = {"target": session.target.name, "profiles": [str(p) for p in paths], **profile.summary()}
    emit(payload, as_json, lambda: facts(payload))
