"""`nas-edge report`: one page that says what a study found."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_edge.cli.inspect import JsonFlag
from nas_edge.cli.study import StorageOption, StudyArgument

if TYPE_CHECKING:
    from nas_edge.report.whole import StudyReport


class Format(StrEnum):
    """What a report is written as; also how its file's name ends."""

    HTML = "html"
    MD = "md"
    JSON = "json"


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
    from nas_edge.store.study import locate

    stored = locate(study, storage)
    form = form or _format_of(out)
    found = StudyReport.of(stored)
    written = []
    if out or not as_json:
        written.append(_write(found, form, out or stored.folder / f"report.{form}"))
    if pictures:
        written += write_pictures(found, pictures)
    emit(found.to_json(), as_json, lambda: "\n".join(f"wrote {path}" for path in written))


def _format_of(out: Path | None) -> Format:
    ending = out.suffix.removeprefix(".").lower() if out else ""
    return Format(ending) if ending in list(Format) else Format.HTML


def _write(found: StudyReport, form: Format, path: Path) -> Path:
    """Whole or not at all."""
    import json

    from nas_edge.cli.output import plain
    from nas_edge.errors import StorageError
    from nas_edge.report.markdown import markdown
    from nas_edge.report.page import page

    if form is Format.HTML:
        text = page(found)
    elif form is Format.MD:
        text = markdown(found)
    else:
        text = json.dumps(plain(found.to_json()), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    temporary = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: the report cannot be written ({error.strerror}); choose another -o") from None
    return path
