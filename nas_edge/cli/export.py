"""`nas-edge export`: what ships."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_edge.cli import complete
from nas_edge.cli.inspect import JsonFlag
from nas_edge.cli.study import StorageOption, StudyArgument, located
from nas_edge.errors import UserError


def export(
    study: StudyArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")],
    trial: Annotated[int | None, typer.Argument(help="The trial's number.", autocompletion=complete.trials)] = None,
    all_front: Annotated[
        bool, typer.Option("--all-front", help="Each member of the front, in a folder of its own, and an index.")
    ] = False,
    ort: Annotated[bool, typer.Option("--ort", help="Also model.ort, for mobile and reduced builds.")] = False,
    storage: StorageOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a trial's model.onnx, recipe.json, card.md and run.py into a folder."""
    from nas_edge.cli.output import emit
    from nas_edge.cli.progress import live_progress
    from nas_edge.report.export import export_front, export_trial

    if all_front and trial is not None:
        raise UserError(f"trial {trial} and --all-front are both given; leave one out")
    if not all_front and trial is None:
        raise UserError(f"which trial? `nas-edge show {study}` lists them; --all-front takes each member of the front")
    stored = located(study, storage)
    with live_progress() as progress:
        if trial is None:
            paths = export_front(stored, out, progress, ort=ort)
        else:
            paths = export_trial(stored, trial, out, progress, ort=ort)
    emit({"files": [str(p) for p in paths]}, as_json, lambda: "\n".join(f"wrote {p}" for p in paths))
