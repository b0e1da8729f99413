"""Results as text: values in JSON's own types, and a report as a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_edge.errors import StorageError

if TYPE_CHECKING:
    from nas_edge.report.whole import StudyReport


class Format(StrEnum):
    """What a report is written as; also how its file's name ends."""

    HTML = "html"
    MD = "md"
    JSON = "json"

    @classmethod
    def of(cls, path: Path | None) -> Format:
        """As the file's name ends, else HTML."""
        ending = path.suffix.removeprefix(".").lower() if path else ""
        return cls(ending) if ending in list(cls) else cls.HTML


def write_report(report: StudyReport, path: Path, form: Format | None = None) -> Path:
    """Write a report as a file, whole or not at all; by default in the format that its name says.

    Raises `UserError` where a package that draws it is missing, and `StorageError` where it cannot be written.
    """
    text = _text(report, form or Format.of(path))
    temporary = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: the report cannot be written ({error.strerror}); choose another place") from None
    return path


def _text(report: StudyReport, form: Format) -> str:
    if form is Format.HTML:
        from nas_edge.report.page import page

        return page(report)
    if form is Format.MD:
        from nas_edge.report.markdown import markdown

        return markdown(report)
    return json.dumps(plain(report.to_json()), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """The value in JSON's own types. Numbers that JSON has no word for (NaN, infinity) become null."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(v) for v in value)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # numpy's and torch's numbers and arrays
        return plain(value.tolist())
    return str(value)
