"""`nas-edge report`: one page that says what a study found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_edge.cli.inspect import JsonFlag
from nas_edge.cli.study import StorageOption, StudyArgument, located
from nas_edge.report.writing import Format, write_report


def report(
    study: StudyArgument,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The file to write; by default report.html in its folder.")
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="By default as the file's name ends, else html.")
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="A folder for the pictures, as PNG.")] = None,
    storage: StorageOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write what a study found as one page: the best trade-offs, what each step did, findings in plain words.

    With --json the data goes to standard output, and a file is written only where -o asks for it.
    """
    from nas_edge.cli.output import emit
    from nas_edge.report.pictures import write_pictures
    from nas_edge.report.whole import StudyReport

    stored = located(study, storage)
    form = form or Format.of(out)
    found = StudyReport.of(stored)
    written = []
    if out or not as_json:
        written.append(write_report(found, out or stored.folder / f"report.{form}", form))
    if pictures:
        written += write_pictures(found, pictures)
    emit(found.to_json(), as_json, lambda: "\n".join(f"wrote {path}" for path in written))
