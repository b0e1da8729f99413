"""The command line's verbs for Python: the same words, typed results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna

from nas_edge.config import make_config
from nas_edge.engine.calibration import calibrate_any
from nas_edge.engine.compress import compress_config
from nas_edge.engine.progress import Progress
from nas_edge.engine.run import run_search
from nas_edge.engine.session import Session
from nas_edge.latency.profile import Profile
from nas_edge.plugins import load_plugins
from nas_edge.report.compression import Compression, run_compression
from nas_edge.samplers.registered import make_sampler
from nas_edge.store.study import StoredStudy, locate


def search(file: str | Path | None = None, *, progress: Progress | None = None, **options: Any) -> StoredStudy:
    """Run a search, or go on with a stored one; the options are those of `nas-edge search`.

    `nas_edge.search(data="digits", trials=40, max_latency_ms=0.5)`. Raises `UserError` naming the option, its value
    and the remedy.
    """
    return run_search(make_config(Path(file) if file else None, options), progress)


def compress(model: str, *, progress: Progress | None = None, **options: Any) -> Compression:
    """Compress a model until the goals are met or the budget is spent; the options are those of `nas-edge compress`.

    `nas_edge.compress("torchvision:mobilenet_v2:weights.pt", data="folder:photos", max_drop=0.5, max_latency_ms=5.0)`.
    The files of the best model are in the study's folder, `.stored.folder`. Raises `UserError` naming the option, its
    value and the remedy.
    """
    return run_compression(compress_config(model, options), progress)


def load_study(study: str, *, storage: str | None = None, out: str | None = None) -> StoredStudy:
    """A stored study by name, folder or database file; `.study` is the Optuna study. Raises `UserError`."""
    return locate(study, storage, out)


def calibrate(*, progress: Progress | None = None, **options: Any) -> Profile:
    """A latency profile of a target; the options are those of `search`.

    With `data`, from candidates for such images; without it, for networks of any family and image size. Takes at most
    about `calibration_seconds`.
    """
    config, registry = make_config(None, options), load_plugins()
    progress = progress or Progress()
    if "data" not in options:
        return calibrate_any(config, registry, progress)
    return Session.open(config, registry).calibrate(config.calibration_seconds, progress)


def sampler(name: str, seed: int = 0) -> optuna.samplers.BaseSampler:
    """A registered sampler, which also works in a plain Optuna study of any search space. Raises `UserError`."""
    return make_sampler(load_plugins(), name, seed)
