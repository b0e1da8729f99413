"""`nas-edge calibrate`: the latency predictor of a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_edge.cli import complete
from nas_edge.cli.inspect import JsonFlag
from nas_edge.cli.latency import DEVICE
from nas_edge.errors import UserError

if TYPE_CHECKING:
    from nas_edge.latency.profile import Profile


def calibrate(
    target: Annotated[str, typer.Option(help=DEVICE, autocompletion=complete.targets)] = "local",
    space: Annotated[
        str, typer.Option(help="Search space whose networks are measured.", autocompletion=complete.spaces)
    ] = "mobilenet",
    data: Annotated[
        str | None, typer.Option(help="Calibrate for images of this data set alone, not for any network.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Time to spend.", min=0.1, max=600)] = 6.0,
    earlier: Annotated[Path | None, typer.Option(help="Start from the profile of a similar device.")] = None,
    table: Annotated[
        Path | None, typer.Option("--from", help="Measure nothing: a CSV of path,latency_ms from any device.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", help="Also write the profile to this file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure random networks on a target, and fit the latency predictor to them."""
    from nas_edge.cli.output import emit, facts

    if table is not None:
        output = output or table.with_suffix(".profile.json")
        profile = _from_table(table)
        paths: list[Path] = []
    else:
        profile = _measured(target, space, data, minutes, earlier)
        paths = profile.keep()
    if output:
        profile.save(output)
        paths.append(output)
    payload = {"target": profile.target, "profiles": [str(p) for p in paths], **profile.summary()}
    emit(payload, as_json, lambda: facts(payload))


def _measured(target: str, space: str, data: str | None, minutes: float, earlier: Path | None) -> Profile:
    from nas_edge.cli.progress import live_progress
    from nas_edge.config import make_config
    from nas_edge.engine.calibration import calibrate_any
    from nas_edge.engine.session import Session
    from nas_edge.latency.profile import Profile
    from nas_edge.plugins import load_plugins

    if data is not None and earlier is not None:
        raise UserError("--earlier and --data do not go together; leave one out")
    started = None if earlier is None else Profile.load(earlier)
    options = {"target": target, "space": space, "calibration_seconds": minutes * 60}
    if data is not None:
        session = Session.open(make_config(None, {**options, "data": data}), load_plugins())
        with live_progress() as progress:
            return session.calibrate(minutes * 60, progress)
    config, registry = make_config(None, options), load_plugins()
    with live_progress() as progress:
        return calibrate_any(config, registry, progress, started)


def _from_table(table: Path) -> Profile:
    from nas_edge.cli.progress import live_progress
    from nas_edge.latency.table import from_table

    with live_progress() as progress:
        progress.phase(f"Fitting to {table}")
        return from_table(table, progress.calibrated)
