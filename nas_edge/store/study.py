"""One study as it is stored: Optuna's trials, our tables, and the artifacts, in one place."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta, upload_artifact
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_edge.config import StudyConfig, parse_config
from nas_edge.errors import StorageError, StudyMismatch, UserError
from nas_edge.store.database import open_storage, shown
from nas_edge.store.tables import Tables

DIRECTIONS = {
    "accuracy": StudyDirection.MAXIMIZE,
    "latency_ms": StudyDirection.MINIMIZE,
    "size_bytes": StudyDirection.MINIMIZE,
}
UNMARKED_GRACE_S = 10.0
MAX_RETRIES = 3


@dataclass(frozen=True)
class StoredStudy:
    """An open study. `study` is a plain Optuna study that any of its tools can load without nas_edge."""

    study: optuna.Study
    storage: optuna.storages.RDBStorage
    tables: Tables
    config: StudyConfig
    url: str

    @classmethod
    def create_or_load(cls, config: StudyConfig, facts: Mapping[str, Any]) -> StoredStudy:
        """The study of a config: a new one, or the stored one where it is the same study.

        `facts` (plugin versions, data and target fingerprints) are stored with a new study and compared with an old
        one's. Raises `StudyMismatch` saying what differs, before anything is changed.
        """
        storage = open_storage(config.storage_url, create=True)
        if config.name in storage_names(storage):
            stored = cls.load(config.name, config.storage_url, storage)
            stored.check(config, facts)
            return cls(stored.study, storage, stored.tables, config, config.storage_url)
        tables = Tables(storage.engine)
        study = optuna.create_study(
            study_name=config.name, storage=storage, directions=[DIRECTIONS[o] for o in config.objectives]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(config.objectives)
        study.set_user_attr("config", config.model_dump(exclude={"storage", "out"}))
        for key, value in facts.items():
            study.set_user_attr(key, value)
        return cls(study, storage, tables, config, config.storage_url)

    @classmethod
    def load(cls, name: str, url: str, storage: optuna.storages.RDBStorage | None = None) -> StoredStudy:
        """A stored study by name. Raises `StorageError` or `UserError` where there is none."""
        storage = storage or open_storage(url, create=False)
        names = storage_names(storage)
        if name not in names:
            known = ", ".join(names) or "none"
            raise UserError(f"there is no study {name!r} in {shown(url)}; it holds: {known}")
        study = optuna.load_study(study_name=name, storage=storage)
        values = study.user_attrs.get("config")
        if not isinstance(values, dict):
            raise StudyMismatch(f"study {name!r} in {shown(url)} was not made by nas_edge; choose another --study")
        config = parse_config({**values, "storage": url}, f"study {name!r}")
        return cls(study, storage, Tables(storage.engine), config, url)

    def check(self, config: StudyConfig, facts: Mapping[str, Any]) -> None:
        """Refuse to go on with a study that was another one."""
        old, new = self.config.identity(), config.identity()
        for key in old:
            if old[key] != new[key]:
                raise StudyMismatch(
                    f"study {config.name!r} was made with {key} = {_short(old[key])}, not {_short(new[key])}; "
                    "give the same, or another --study NAME for a new one"
                )
        for key, value in facts.items():
            before = self.study.user_attrs.get(key)
            if before != value:
                raise StudyMismatch(
                    f"study {config.name!r} was made with other {key}: {_difference(before, value)}; "
                    "bring them back, or start another study with --study NAME"
                )

    @property
    def folder(self) -> Path:
        return self.config.folder

    @property
    def artifacts(self) -> FileSystemArtifactStore:
        path = self.folder / "artifacts"
        path.mkdir(parents=True, exist_ok=True)
        return FileSystemArtifactStore(str(path))

    # --- trials

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def finished(self) -> int:
        """Evaluated candidates: what `--trials` counts."""
        return len(self.trials(TrialState.COMPLETE))

    def front(self, trials: Sequence[FrozenTrial] | None = None) -> list[FrozenTrial]:
        """The Pareto-optimal trials that meet the constraints, most accurate first.

        The same as Optuna's `best_trials`, which copies every trial deeply first. `trials` saves reading them again.
        """
        signs = [-1.0 if d is StudyDirection.MAXIMIZE else 1.0 for d in self.study.directions]
        points = [
            (tuple(s * v for s, v in zip(signs, t.values, strict=True)), t)
            for t in (self.trials() if trials is None else trials)
            if t.state is TrialState.COMPLETE and all(c <= 0 for c in t.constraints.values())
        ]
        points.sort(key=lambda point: (point[0], point[1].number))
        front: list[tuple[tuple[float, ...], FrozenTrial]] = []
        for values, trial in points:  # whatever dominates a point is sorted before it
            if not any(kept != values and all(k <= v for k, v in zip(kept, values, strict=True)) for kept, _ in front):
                front.append((values, trial))
        return [trial for _, trial in front]

    def trial(self, number: int) -> FrozenTrial:
        for trial in self.trials():
            if trial.number == number:
                return trial
        raise UserError(f"study {self.config.name!r} has no trial {number}; it has {len(self.trials())}")

    def twin(self, key: str, but: int) -> FrozenTrial | None:
        """A finished trial of the same candidate."""
        for trial in self.trials(TrialState.COMPLETE):
            if trial.user_attrs.get("key") == key and trial.number != but:
                return trial
        return None

    # --- what a killed process left behind

    def requeue_dead(self, trials: Sequence[FrozenTrial]) -> int:
        """Fail those trials whose process is gone and queue their parameters again; returns how many."""
        count = 0
        for trial in trials:
            if trial.state is not TrialState.RUNNING:
                continue
            if _is_dead(trial):
                self.requeue(trial, "its process was killed")
                count += 1
        return count

    def requeue(self, trial: FrozenTrial, why: str) -> None:
        """Queue a trial's parameters again and fail it: in this order, so that a kill in between loses nothing."""
        if trial.state.is_finished():
            return
        tries = int(trial.user_attrs.get("retries", 0))
        queued = any(t.user_attrs.get("retry_of") == trial.number for t in self.trials())
        if trial.params and not queued and tries < MAX_RETRIES:
            self.study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number, "retries": tries + 1})
        self.storage.set_trial_user_attr(trial._trial_id, "why", why)
        self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    # --- artifacts

    def upload(self, path: Path, owner: optuna.Trial | FrozenTrial | optuna.Study) -> str:
        return upload_artifact(
            artifact_store=self.artifacts, file_path=str(path), study_or_trial=owner, storage=self.storage
        )

    def download(self, filename: str, owner: FrozenTrial | optuna.Study, to: Path) -> bool:
        """Copy the newest artifact of that file name to a path; False where there is none."""
        for meta in self._metas(filename, owner):
            source = self.folder / "artifacts" / meta.artifact_id
            if source.is_file():
                to.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=to.parent) as folder:
                    copy = Path(folder) / filename
                    download_artifact(artifact_store=self.artifacts, artifact_id=meta.artifact_id, file_path=str(copy))
                    copy.replace(to)
                return True
        return False

    def _metas(self, filename: str, owner: FrozenTrial | optuna.Study) -> Iterable[Any]:
        found = get_all_artifact_meta(owner, storage=self.storage)
        return [m for m in found if m.filename == filename]


def storage_names(storage: optuna.storages.RDBStorage) -> list[str]:
    return sorted(optuna.get_all_study_names(storage))


def locate(study: str, storage: str | None, out: str | None = None) -> StoredStudy:
    """A study by name (in `--storage`, `--out` or runs/NAME), by folder, or by database file."""
    path = Path(study)
    if storage:
        return StoredStudy.load(study, storage)
    for database in (path, path / "study.db", Path(out or "runs") / study / "study.db", Path(out or ".") / "study.db"):
        if database.is_file():
            url = f"sqlite:///{database}"
            opened = open_storage(url, create=False)
            names = storage_names(opened)
            name = study if study in names else names[0] if len(names) == 1 else None
            if name is None:
                raise UserError(
                    f"{database} holds {len(names)} studies ({', '.join(names)}); name one with --storage {url}"
                )
            found = StoredStudy.load(name, url, opened)
            config = found.config.model_copy(update={"out": str(database.parent)})
            return StoredStudy(found.study, opened, found.tables, config, url)
    raise StorageError(
        f"there is no study {study!r}: looked for {path / 'study.db'} and {Path('runs') / study / 'study.db'}; "
        "give its folder, or --storage URL"
    )


def worker_mark() -> dict[str, Any]:
    """Who runs a trial: enough to tell later whether that process still lives."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _process_start(os.getpid())}


def _is_dead(trial: FrozenTrial) -> bool:
    mark = trial.user_attrs.get("worker")
    if not isinstance(mark, dict):  # killed between asking and marking
        started = trial.datetime_start or datetime.now()
        return (datetime.now() - started).total_seconds() > UNMARKED_GRACE_S
    if mark.get("host") != socket.gethostname():
        return False
    return _process_start(int(mark["pid"])) != mark.get("started")


def _process_start(pid: int) -> str | None:
    """The start time of a process in clock ticks since boot; None where it is gone. Tells a reused pid apart."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _difference(before: object, after: object) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        changed = [k for k in sorted({*before, *after}) if before.get(k) != after.get(k)]
        return "; ".join(f"{k} was {_short(before.get(k))}, is {_short(after.get(k))}" for k in changed)
    return f"was {_short(before)}, is {_short(after)}"
