"""Where a study's database may lie, by the word that it is asked for with."""

from __future__ import annotations

from pathlib import Path

DATABASE = "study.db"
ARTIFACTS = "artifacts"  # a folder, within that of the study
RUNS = "runs"


def given_places(study: str) -> tuple[Path, ...]:
    """As a file or a folder."""
    return Path(study), Path(study) / DATABASE


def named_places(study: str, out: str | None = None) -> tuple[Path, ...]:
    """As a name, of one of the studies in a database."""
    return Path(out or RUNS) / study / DATABASE, Path(out or ".") / DATABASE
