"""One study as it is stored: Optuna's trials, our tables, and the artifacts, in one place."""

from __future__ import annotations

import io
import json
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_edge.config import StudyConfig, parse_config
from nas_edge.errors import StorageError, StudyMismatch, UserError
from nas_edge.store.database import make_folder, open_storage, shown, storage_names
from nas_edge.store.marks import worker_mark
from nas_edge.store.places import ARTIFACTS
from nas_edge.store.processes import WORKER, exclusively, heartbeat
from nas_edge.store.tables import Tables
from nas_edge.store.turns import turn

if TYPE_CHECKING:
    from optuna.artifacts import ArtifactMeta

    from nas_edge.store.artifacts import ArtifactStore
    from nas_edge.store.database import Storage

LOCK = ".lock"
DIRECTIONS = {
    "accuracy": StudyDirection.MAXIMIZE,
    "latency_ms": StudyDirection.MINIMIZE,
    "size_bytes": StudyDirection.MINIMIZE,
}
GOAL = "goal: "  # begins the name of a constraint that only guides the sampler
START = "start"  # the attribute of a trial that the engine proposed: what it begins with
REPEAT_OF = "repeat_of"  # likewise: the trial that the same candidate was evaluated in
MARK = "artifacts"  # the attribute of a study that names an artifact by which its folder or bucket is known
PREPARED = "prepared"  # the attribute of a study whose teacher, supernet and profile are stored
BASELINE = "{study}-random-{number}"  # the name of a random search beside a study


@dataclass(frozen=True)
class StoredStudy:
    """An open study. `study` is a plain Optuna study that any of its tools can load without nas_edge."""

    study: optuna.Study
    storage: Storage
    tables: Tables
    config: StudyConfig
    url: str
    seen: Sequence[FrozenTrial] | None = None  # its trials, of a `snapshot`

    @classmethod
    def create_or_load(cls, config: StudyConfig, facts: Mapping[str, Any]) -> StoredStudy:
        """The study of a config: a new one, or the stored one where it is the same study.

        `facts` (plugin versions, data and target fingerprints) are stored with a new study and compared with an old
        one's. Raises `StudyMismatch` saying what differs, before anything is changed.
        """
        from nas_edge.store.artifacts import open_artifacts

        make_folder(config.folder)
        open_artifacts(config)
        storage = open_storage(config.storage_url, create=True)
        if config.name not in storage_names(storage) or _half_made(config, storage):
            return cls._create(config, facts, storage)
        stored = cls.load(config.name, config.storage_url, storage)
        stored.check(config, facts)
        stored = replace(stored, config=config)
        stored.check_artifacts()
        if stored.study.user_attrs["config"] != _stored_values(config):  # `resume` goes on to the trials asked for last
            stored.study.set_user_attr("config", _stored_values(config))
        return stored

    @classmethod
    def _create(cls, config: StudyConfig, facts: Mapping[str, Any], storage: Storage) -> StoredStudy:
        """A new study. Its config is stored last: a study without one was left half made, and is made again."""
        tables = Tables(storage.rows)
        study = optuna.create_study(
            study_name=config.name, storage=storage, directions=_directions(config), load_if_exists=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(config.objectives)
        stored, mark = cls(study, storage, tables, config, config.storage_url), uuid.uuid4().hex
        stored.artifacts.write(mark, io.BytesIO(config.name.encode()))
        values = {**facts, MARK: mark, "folder": str(config.folder.resolve()), "config": _stored_values(config)}
        for key, value in values.items():
            study.set_user_attr(key, value)
        return stored

    @classmethod
    def load(cls, name: str, url: str, storage: Storage | None = None) -> StoredStudy:
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
        folder = study.user_attrs.get("folder")
        here = folder if isinstance(folder, str) and Path(folder).is_dir() else None
        config = parse_config({**values, "storage": url, "out": here}, f"study {name!r}")
        return cls(study, storage, Tables(storage.rows), config, url)

    def at(self, folder: str | Path) -> StoredStudy:
        """The same study with its files in that folder."""
        return replace(self, config=self.config.model_copy(update={"out": str(folder)}))

    def check(self, config: StudyConfig, facts: Mapping[str, Any]) -> None:
        """Refuse to go on with a study that was another one."""
        old, new = self.config.identity(), config.identity()
        for key in old:
            if old[key] != new[key]:
                scalar = f"{key} = {_short(old[key])}, not {_short(new[key])}"
                what = f"other {key}: {_difference(old[key], new[key])}" if isinstance(old[key], dict) else scalar
                raise StudyMismatch(
                    f"study {config.name!r} was made with {what}; give the same, or another --study NAME for a new one"
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
    def target_key(self) -> str:
        """What the tables know the study's target by."""
        return str(self.study.user_attrs["target"]["fingerprint"])

    def check_artifacts(self) -> None:
        """Raise `StorageError` where its artifacts are not those of the study, but another folder or bucket."""
        mark = self.study.user_attrs.get(MARK)
        if mark is not None and self.artifacts.written(mark) is None:
            raise StorageError(
                f"{self.where} is not where study {self.config.name!r} keeps its models; give --out the folder that it "
                "was made in, as this machine sees it, or make the study with --artifacts s3://BUCKET"
            )

    @property
    def where(self) -> str:
        """Where its artifacts are, for messages."""
        return self.config.artifacts or str(self.folder / ARTIFACTS)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        from nas_edge.store.artifacts import open_artifacts

        return open_artifacts(self.config)

    @property
    def is_prepared(self) -> bool:
        """Whether workers can begin: its teacher, supernet and profile are stored."""
        return PREPARED in self.study.user_attrs

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the other workers from asking for trials meanwhile. Those of other machines cannot share SQLite."""
        with ExitStack() as held:
            make_folder(self.folder)
            held.enter_context(exclusively(self.folder / LOCK))
            if self.storage.is_shared:
                held.enter_context(turn(self.storage.rows, self.config.name))
            yield

    def snapshot(self) -> StoredStudy:
        """The study as it is now, to be looked at: its trials are read once, without their parameters."""
        return replace(self, seen=self.storage.brief_trials(self.study._study_id))

    def with_params(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Some hundred trials of a snapshot with their parameters, the oldest first."""
        return self.storage.whole_trials(self.study._study_id, [t._trial_id for t in trials])

    def model_path(self, number: int) -> Path:
        """Where the ONNX file of a finalised trial lies."""
        return self.folder / "models" / f"trial-{number:04d}.onnx"

    # --- trials

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        if self.seen is not None:
            return [t for t in self.seen if not states or t.state in states]
        return self.study.get_trials(deepcopy=False, states=states or None)

    def evaluated(self) -> list[FrozenTrial]:
        """The trials whose candidates were evaluated, each candidate once."""
        return [t for t in self.trials(TrialState.COMPLETE) if is_evaluated(t)]

    def finished(self) -> int:
        """How many candidates were evaluated: what `--trials` counts."""
        return len(self.evaluated())

    def front(self, trials: Sequence[FrozenTrial] | None = None) -> list[FrozenTrial]:
        """The Pareto-optimal trials that meet the constraints, most accurate first.

        The same as Optuna's `best_trials`, which copies every trial deeply first; but without repeats, of trials that
        made the same file (one of them by a technique that was undone) only the first, and a goal that was missed takes
        no trial off the front of a compression. `trials` saves reading them again.
        """
        found = [(self._point(t), t) for t in (self.trials() if trials is None else trials)]
        able = [(point, t) for point, t in found if point is not None]
        points = np.array([point for point, _ in able]).reshape(len(able), len(self.study.directions))
        left = np.lexsort(points.T[::-1])  # whatever dominates a point is sorted before it; equal ones stay in order
        front, files = [], set()
        while len(left):
            best, left = left[0], left[1:]
            trial = able[best][1]
            file = trial.user_attrs.get("onnx_sha256", trial.number)
            if file not in files:
                files.add(file)
                front.append(trial)
            worse = (points[best] <= points[left]).all(axis=1) & (points[best] < points[left]).any(axis=1)
            left = left[~worse]
        return front

    def _point(self, trial: FrozenTrial) -> tuple[float, ...] | None:
        """The losses of a trial that may be on the front. Found once: nothing changes a finished trial."""
        if trial.number not in self._points:
            if not trial.state.is_finished():
                return None
            self._points[trial.number] = self.losses(trial.values) if self.is_able(trial) else None
        return self._points[trial.number]

    def is_able(self, trial: FrozenTrial) -> bool:
        """Whether a trial was evaluated and meets the limits; the goals of a compression are none."""
        return is_evaluated(trial) and all(value <= 0 for value in limits_of(trial).values())

    @cached_property
    def _points(self) -> dict[int, tuple[float, ...] | None]:
        return {}

    def losses(self, values: Sequence[float]) -> tuple[float, ...]:
        """A trial's values so that less is better of each."""
        directions = self.study.directions
        return tuple(-v if d is StudyDirection.MAXIMIZE else v for v, d in zip(values, directions, strict=True))

    def trial(self, number: int) -> FrozenTrial:
        for trial in self.trials():
            if trial.number == number:
                return trial
        raise UserError(f"study {self.config.name!r} has no trial {number}; it has {len(self.trials())}")

    def evaluated_in(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial that a trial's candidate was evaluated in: itself, unless it is a repeat."""
        return self.trial(trial.user_attrs[REPEAT_OF]) if REPEAT_OF in trial.user_attrs else trial

    def ask(self, trials: Sequence[FrozenTrial]) -> optuna.Trial:
        """The next trial, marked as this process's before it runs: one that is killed here is seen to be dead.

        To be called within `alone()`, with the trials as they are.
        """
        mark = worker_mark()
        waiting = next((t for t in trials if t.state is TrialState.WAITING), None)
        if waiting is None:
            self.study.enqueue_trial({}, user_attrs={WORKER: mark})
        else:
            self.storage.set_trial_user_attr(waiting._trial_id, WORKER, mark)
        trial = self.study.ask()
        if trial.user_attrs.get(WORKER) != mark:  # another machine was quicker and left us the next one
            trial.set_user_attr(WORKER, mark)
        return trial

    def working(self, trial: optuna.Trial) -> AbstractContextManager[None]:
        """Show other machines meanwhile that this one works on a trial."""
        return heartbeat(self.storage, trial._trial_id)

    def together(self, trial: optuna.Trial) -> AbstractContextManager[None]:
        """Store the parameters and attributes that a trial is given meanwhile at once, at its end."""
        return self.storage.together(trial._trial_id)

    @cached_property
    def suspected(self) -> dict[int, float]:
        """Since when running trials are suspected to have lost their workers, by `processes.silent`."""
        return {}

    def is_told(self, trial: optuna.Trial) -> bool:
        """Whether a trial is finished: by another worker too, which took this one for dead."""
        return self.storage.get_trial(trial._trial_id).state.is_finished()

    # --- artifacts: Optuna's part for them, which takes a while to import, is imported where it is used

    def upload(self, path: Path, owner: optuna.Trial | FrozenTrial | optuna.Study) -> str:
        from optuna.artifacts import upload_artifact

        return upload_artifact(
            artifact_store=self.artifacts, file_path=str(path), study_or_trial=owner, storage=self.storage
        )

    def download(self, filename: str, owner: FrozenTrial | optuna.Study, to: Path) -> bool:
        """Copy the newest artifact of that file name to a path; False where there is none."""
        from nas_edge.store.artifacts import copy_newest

        return copy_newest(self.artifacts, [m.artifact_id for m in self.noted(owner) if m.filename == filename], to)

    def noted(self, owner: FrozenTrial | optuna.Study) -> list[ArtifactMeta]:
        """Which files belong to it. A finished trial says so itself: asking the database for each takes a while."""
        from optuna.artifacts import ArtifactMeta, get_all_artifact_meta
        from optuna.artifacts._upload import ARTIFACTS_ATTR_PREFIX

        if isinstance(owner, FrozenTrial) and owner.state.is_finished():
            found = owner.system_attrs.items()
            return [ArtifactMeta(**json.loads(meta)) for key, meta in found if key.startswith(ARTIFACTS_ATTR_PREFIX)]
        return get_all_artifact_meta(owner, storage=self.storage)


def is_evaluated(trial: FrozenTrial) -> bool:
    """Whether a trial's candidate was evaluated in it: it is finished, and no repeat."""
    return trial.state is TrialState.COMPLETE and REPEAT_OF not in trial.user_attrs


def limits_of(trial: FrozenTrial) -> dict[str, float]:
    """By how much a trial exceeds each limit of its study, 0 or less where it meets it; goals are none."""
    return {name: value for name, value in trial.constraints.items() if not name.startswith(GOAL)}


def begun(trials: Sequence[FrozenTrial]) -> int:
    """Trials that were asked for, each candidate once: those interrupted are asked for again."""
    return sum(t.state is not TrialState.WAITING and not t.user_attrs.get("interrupted") for t in trials)


def _directions(config: StudyConfig) -> list[StudyDirection]:
    return [DIRECTIONS[name] for name in config.objectives]


def _stored_values(config: StudyConfig) -> dict[str, Any]:
    return config.model_dump(exclude={"storage", "out"})


def _half_made(config: StudyConfig, storage: Storage) -> bool:
    """Whether the study's making was cut short: then nothing but some of its attributes is there."""
    study = optuna.load_study(study_name=config.name, storage=storage)
    return "config" not in study.user_attrs and not study.trials and study.directions == _directions(config)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _difference(before: object, after: object) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        changed = [k for k in sorted({*before, *after}) if before.get(k) != after.get(k)]
        return "; ".join(f"{k} was {_short(before.get(k))}, is {_short(after.get(k))}" for k in changed)
    return f"was {_short(before)}, is {_short(after)}"
