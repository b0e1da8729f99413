"""Where a study's models and recipes lie: a folder, or a bucket that machines share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore

from nas_edge.config import StudyConfig
from nas_edge.errors import StorageError
from nas_edge.store.database import make_folder
from nas_edge.store.places import ARTIFACTS

S3 = "s3://"
NOT_FOUND = 404


class ArtifactStore(Protocol):
    """One of Optuna's that also knows when an artifact was written."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Raises Optuna's `ArtifactNotFound`."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """The artifact is there whole or not at all: Optuna notes one before it is written."""

    def remove(self, artifact_id: str) -> None: ...

    def written(self, artifact_id: str) -> Any | None:
        """When an artifact was written, to be compared; None where it is not there."""


class FolderArtifactStore(FileSystemArtifactStore):
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        temporary = self._folder / f"{artifact_id}.part"
        with temporary.open("wb") as file:
            shutil.copyfileobj(content_body, file)
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave the name without the content
        temporary.replace(self._folder / artifact_id)

    def written(self, artifact_id: str) -> int | None:
        path = self._folder / artifact_id
        return path.stat().st_mtime_ns if path.is_file() else None


class BucketArtifactStore(Boto3ArtifactStore):
    """Objects in a bucket of S3, or of what speaks its protocol; credentials and endpoint are boto3's (`AWS_...`).

    Many studies may share one. Raises `StorageError` where boto3 is missing or the bucket cannot be reached.
    """

    def __init__(self, url: str) -> None:
        try:
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise StorageError(f"--artifacts {url} needs boto3: pip install 'nas-edge[s3]'") from None
        self._refused = ClientError
        try:
            super().__init__(url.removeprefix(S3))
            self.client.head_bucket(Bucket=self.bucket)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise StorageError(
                f"--artifacts {url} cannot be reached: {error}; check it, and the AWS_ variables"
            ) from None

    def written(self, artifact_id: str) -> datetime | None:
        try:
            head = self.client.head_object(Bucket=self.bucket, Key=artifact_id)
        except self._refused as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != NOT_FOUND:
                raise
            return None
        at: datetime = head["LastModified"]
        return at


def open_artifacts(config: StudyConfig) -> ArtifactStore:
    """The store of a study. Raises `StorageError` where it cannot be opened."""
    if config.artifacts is None:
        folder = config.folder / ARTIFACTS
        make_folder(folder)
        return FolderArtifactStore(folder)
    return BucketArtifactStore(config.artifacts)


def copy_newest(store: ArtifactStore, artifact_ids: Iterable[str], to: Path) -> bool:
    """Copy the newest of these artifacts to a path, whole or not at all; False where none is there.

    Optuna lists artifacts in no order, so the times of writing decide.
    """
    times = {i: at for i in artifact_ids if (at := store.written(i)) is not None}
    if not times:
        return False
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f"{to.name}.{os.getpid()}.part")
    with store.open_reader(max(times, key=times.__getitem__)) as source, temporary.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    temporary.replace(to)
    return True
