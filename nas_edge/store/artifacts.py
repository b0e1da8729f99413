"""Artifacts as files in the study's folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from optuna.artifacts import FileSystemArtifactStore


class AtomicArtifactStore(FileSystemArtifactStore):
    """Optuna's store, but a file is there whole or not at all: Optuna notes an artifact before it writes the file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        temporary = self._folder / f"{artifact_id}.part"
        with temporary.open("wb") as file:
            shutil.copyfileobj(content_body, file)
        temporary.replace(self._folder / artifact_id)

    def copy_newest(self, artifact_ids: Iterable[str], to: Path) -> bool:
        """Copy the newest of these artifacts to a path, whole or not at all; False where none is there.

        Optuna lists artifacts in no order, so the files' own times decide.
        """
        files = [path for path in (self._folder / artifact_id for artifact_id in artifact_ids) if path.is_file()]
        if not files:
            return False
        newest = max(files, key=lambda path: path.stat().st_mtime_ns)
        to.parent.mkdir(parents=True, exist_ok=True)
        temporary = to.with_name(f"{to.name}.{os.getpid()}.part")
        shutil.copyfile(newest, temporary)
        temporary.replace(to)
        return True
