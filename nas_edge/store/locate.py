"""Finds a study by what a person calls it: a name, a folder, or a database file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna

from nas_edge.config import StudyConfig
from nas_edge.errors import StorageError, UserError
from nas_edge.store.database import open_storage, storage_names
from nas_edge.store.places import ARTIFACTS, given_places, named_places
from nas_edge.store.study import BASELINE, StoredStudy


def locate(study: str, storage: str | None, out: str | None = None) -> StoredStudy:
    """A study by name (in `--storage`, `--out` or runs/NAME), by folder, or by database file."""
    if storage:
        found = StoredStudy.load(study, storage)
        return found.at(out) if out else found
    given = given_places(study)
    for database in (*given, *named_places(study, out)):
        if not database.is_file():
            continue
        url = f"sqlite:///{database}"
        opened = open_storage(url, create=False)
        names = storage_names(opened)
        searches = _searches(names)
        if study in names:
            name = study
        elif database not in given:
            continue
        elif len(searches) == 1:
            name = searches[0]
        else:
            held = f"{len(names)} studies ({', '.join(names)}); name one with" if names else "no study; see"
            raise UserError(f"{database} holds {held} --storage {url}")
        found = StoredStudy.load(name, url, opened)
        beside = (database.parent / ARTIFACTS).is_dir() or not found.folder.is_dir()
        return found.at(database.parent) if beside else found
    raise StorageError(
        f"there is no study {study!r}: looked for {given[-1]} and {named_places(study)[0]}; "
        "give its folder, or --storage URL"
    )


def stored_techniques(config: StudyConfig) -> list[str] | None:
    """The techniques that a stored study searches over; None where there is no such study yet."""
    url = config.storage_url
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).is_file():
        return None
    storage = open_storage(url, create=False)
    if config.name not in storage_names(storage):
        return None
    values = optuna.load_study(study_name=config.name, storage=storage).user_attrs.get("config", {})
    techniques = values.get("techniques")
    return None if techniques is None else list(techniques)


def _searches(names: Sequence[str]) -> list[str]:
    """The names of studies but for those of the random searches beside them."""

    def is_beside(name: str) -> bool:
        study, _, number = name.rpartition(BASELINE.format(study="", number=""))
        return study in names and number.isdecimal()

    return [name for name in names if not is_beside(name)]
