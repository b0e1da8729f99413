"""What candidates of several studies are worth when all are trained in the same way."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from benchmarks.support.log import Log, log
from nas_edge.config import StudyConfig
from nas_edge.engine.loop import undone_of
from nas_edge.engine.recipes import read_recipe
from nas_edge.engine.session import Session
from nas_edge.errors import ExportError, InvalidCandidate
from nas_edge.evaluate import artifacts, evaluate
from nas_edge.export.runtime import accuracy
from nas_edge.plugins import load_plugins
from nas_edge.spec import CandidateSpec
from nas_edge.store.study import StoredStudy


@dataclass(frozen=True)
class Retrained:
    """An ONNX file, its accuracy on the test split, and how long it took."""

    path: Path
    test_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Retraining:
    """Trains candidates from nothing under one config, with one teacher; each is stored in the folder, and kept."""

    config: StudyConfig
    folder: Path

    @cached_property
    def session(self) -> Session:
        progress = Log()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        session = Session.open(self.config, load_plugins())
        stored = StoredStudy.create_or_load(self.config, session.facts)
        session.ensure_profile(stored, progress)
        session.ensure_teacher(stored, progress)
        return session

    def of(self, stored: StoredStudy, trial: FrozenTrial) -> Retrained | None:
        """A trial's candidate with the techniques that it kept; None where it fails with its new weights."""
        spec, found = read_recipe(stored, trial, final=False)
        undone = undone_of(spec, found)
        name = hashlib.sha256(" ".join([spec.key, *sorted(undone)]).encode()).hexdigest()[:16]
        path, note = self.folder / f"{name}.onnx", self.folder / f"{name}.json"
        if not note.exists():
            log(f"training trial {trial.number} of {stored.config.name} again")
            start = time.perf_counter()
            right = self._train(spec, undone, path)
            note.write_text(json.dumps({"test_accuracy": right, "seconds": time.perf_counter() - start}))
        found = json.loads(note.read_text())
        return None if found["test_accuracy"] is None else Retrained(path, **found)

    def _train(self, spec: CandidateSpec, undone: set[str], path: Path) -> float | None:
        session = self.session
        with session.context() as context:
            try:
                candidate, _ = evaluate(session.registry, spec, context, self.config.train, undone=undone)
            except (InvalidCandidate, ExportError) as error:
                log(f"it fails: {error}")
                return None
            _, made = artifacts(candidate)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made.read_bytes())
        return accuracy(path, session.data.test, session.target)
