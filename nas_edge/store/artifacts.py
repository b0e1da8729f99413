"""Artifacts as files in the study's folder."""

from __future__ import annotations

import shutil
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
