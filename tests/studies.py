"""Small real studies for the tests: their configs, their processes, and what must hold of each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas_edge.config import StudyConfig, parse_config
from nas_edge.cpu import channel_block
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import copy_model
from nas_edge.engine.run import run_search
from nas_edge.engine.session import Session
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.profile import Profile, default_path
from nas_edge.plugins import Registry
from nas_edge.store.study import StoredStudy

NAS_EDGE = (sys.executable, "-m", "nas_edge")
TINY = Path(__file__).parent / "third_party" / "nas_edge_tiny" / "nas_edge_tiny.py"
TRAIN: Mapping[str, Any] = {
    "samples": 128,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "teacher_budget": 1.0,
    "final_budget": 0.0,
}


def install_tiny(folder: Path) -> None:
    """Put the tiny plugin into a folder as pip would."""
    shutil.copy(TINY, folder)
    info = folder / "nas_edge_tiny-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nas-edge-tiny\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[nas_edge]\ntiny = nas_edge_tiny\n")


def tiny_values(out: Path, **changes: Any) -> dict[str, Any]:
    """The config of a study whose trials take some tenths of a second."""
    train = {**TRAIN, **changes.pop("train", {})}
    values = {
        "study": "tiny",
        "space": "tiny",
        "target": "bench",
        "techniques": [],
        "train_images": 128,
        "trials": 3,
        "sampler": "random",
        "out": str(out),
    }
    return {**values, **changes, "train": train}


def tiny_config(out: Path, **changes: Any) -> StudyConfig:
    return parse_config(tiny_values(out, **changes))


def study_file(path: Path, values: Mapping[str, Any]) -> str:
    """Write a config as TOML and return the path."""
    tables = {k: v for k, v in values.items() if isinstance(v, dict)}
    lines = [f"{k} = {json.dumps(v)}" for k, v in values.items() if k not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def keep_profile(config: StudyConfig, registry: Registry) -> None:
    """Spare a search of this config its calibration: the tiny plugin predicts, so the profile's values do not count."""
    session = Session.open(config, registry)
    fingerprint = session.target.fingerprint()
    error = HeldOutError(0.01, 0.02, 1.0, 1.0, 8)
    block = channel_block(fingerprint)
    model = LatencyModel(0.1, {})
    profile = Profile(session.target.name, fingerprint, model, error, 0.01, 10.0, 0.1, session.domain, block)
    profile.save(default_path(fingerprint, session.domain))


def search(config: StudyConfig, registry: Registry, progress: Progress | None = None) -> StoredStudy:
    """Run a search in this process."""
    keep_profile(config, registry)
    return run_search(config, progress)


def opened(config: StudyConfig, registry: Registry) -> tuple[Session, StoredStudy]:
    """A session and its study with the latency profile in use, and no trial yet."""
    keep_profile(config, registry)
    session = Session.open(config, registry)
    stored = StoredStudy.create_or_load(config, session.facts)
    session.ensure_profile(stored, Progress())
    return session, stored


class Said(Progress):
    """Keeps what a search says, its phases, and what it warns of."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.said: list[str] = []
        self.warnings: list[str] = []

    def phase(self, text: str) -> None:
        self.phases.append(text)

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def environment(site: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(site), "NAS_EDGE_LOAD_PLUGINS": "tiny", "COLUMNS": "200", **more}


def heed_interrupts() -> None:
    """For a process about to start: a run in the background ignores interrupts, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def found(stored: StoredStudy) -> list[tuple[str, str, list[float]]]:
    """What a search found, in its order: key, file, values."""
    complete = stored.evaluated()
    return [(t.user_attrs["key"], t.user_attrs["onnx_sha256"], t.values) for t in complete]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_whole(stored: StoredStudy, trials: int, scratch: Path) -> list[FrozenTrial]:
    """The study has exactly so many finished trials, nothing open, no candidate twice, and every file."""
    complete = stored.evaluated()
    assert len(complete) == trials
    assert not stored.trials(TrialState.RUNNING, TrialState.WAITING)
    keys = [t.user_attrs["key"] for t in complete]
    assert len(set(keys)) == len(keys)
    for trial in complete:
        path = scratch / f"{trial.number}.onnx"
        copy_model(stored, trial, path, final=False)
        assert sha256(path) == trial.user_attrs["onnx_sha256"]
    return complete
