"""A profile from latencies that were measured elsewhere: a table of ONNX files and milliseconds."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import time
from pathlib import Path

from nas_edge.errors import UserError
from nas_edge.files import Malformed, read_text
from nas_edge.latency.calibrate import MIN_NETWORKS, Progress, without_a_model
from nas_edge.latency.graph import Work, kernels_of
from nas_edge.latency.profile import Profile
from nas_edge.onnx_files import read_onnx

COLUMNS = ("path", "latency_ms")
MAX_BYTES = 10_000_000


def read_table(file: Path) -> list[tuple[Path, float]]:
    """The rows of a CSV with the columns `path` (of an ONNX file; relative ones to the table) and `latency_ms`.

    Raises `UserError` with the row where something is not as it must be.
    """
    try:
        rows = csv.DictReader(io.StringIO(read_text(file, MAX_BYTES), newline=""))
        names = [name.strip() for name in rows.fieldnames or []]
        if missing := [c for c in COLUMNS if c not in names]:
            raise UserError(f"{file}: no column {missing[0]!r} in its first line ({', '.join(names) or 'empty'})")
        rows.fieldnames = names
        return [_row(file, number, row["path"], row["latency_ms"]) for number, row in enumerate(rows, start=2)]
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); give a CSV with path,latency_ms") from None
    except (Malformed, csv.Error) as error:
        why = f" {error}" if isinstance(error, Malformed) else f" is not CSV: {error}"
        raise UserError(f"{file}{why}; give a CSV with the columns path,latency_ms") from None


def _row(file: Path, number: int, path: str | None, latency: str | None) -> tuple[Path, float]:
    try:
        latency_ms = float(latency or "")
    except ValueError:
        latency_ms = math.nan
    if not math.isfinite(latency_ms) or latency_ms <= 0:
        raise UserError(f"{file}, line {number}: latency_ms is {latency!r}; give milliseconds above 0")
    model = file.parent / (path or "").strip()
    if not model.is_file():
        raise UserError(f"{file}, line {number}: there is no file {model}; paths are relative to the table")
    return model, latency_ms


def from_table(file: Path, progress: Progress = lambda networks, seconds, error: None) -> Profile:
    """The profile of the device that a table was measured on. `progress` hears of each file read, as in `calibrate`.

    Its fingerprint is the table's content: it predicts by its file name, for no target. Networks with operators that
    have no latency model are left out. Raises `UserError` for a table that cannot be read or is too short.
    """
    rows = read_table(file)
    works: list[Work] = []
    measured: list[float] = []
    unsupported: set[str] = set()
    start = time.monotonic()
    for done, (path, latency_ms) in enumerate(rows, start=1):
        work = kernels_of(read_onnx(path))
        progress(done, time.monotonic() - start, None)
        unsupported.update(work.unsupported)
        if not work.unsupported:
            works.append(work)
            measured.append(latency_ms)
    if len(works) < MIN_NETWORKS:
        raise UserError(
            f"{file}: {len(works)} networks can be used{without_a_model(unsupported)}, "
            f"and a profile needs {MIN_NETWORKS}"
        )
    content = "\n".join(f"{path.name},{latency_ms!r}" for path, latency_ms in rows)
    return Profile.fitted(
        works,
        measured,
        target=file.stem,
        fingerprint={"table": hashlib.sha256(content.encode()).hexdigest()},
        domain=f"table {file.name}",
    )
