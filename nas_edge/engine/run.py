"""One search from its config to its finished front."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import optuna
import sqlalchemy as sa
import torch

from nas_edge.config import StudyConfig
from nas_edge.engine.finish import finish, front_evaluations
from nas_edge.engine.loop import run_trials
from nas_edge.engine.progress import Progress
from nas_edge.engine.session import Session
from nas_edge.errors import NasEdgeError, StorageError
from nas_edge.plugins import load_plugins
from nas_edge.store.study import StoredStudy


def run_search(config: StudyConfig, progress: Progress | None = None) -> StoredStudy:
    """Start a study, or go on with the stored one, up to `config.trials` evaluated candidates in all.

    Raises `UserError` for anything the user can mend, before the study is touched; KeyboardInterrupt leaves it whole.
    """
    progress = progress or Progress()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    started = time.monotonic()
    deadline = None if config.timeout is None else started + config.timeout
    with _storage_errors(), _cores_shared_out(config.workers):
        progress.phase("Loading the data")
        session = Session.open(config, load_plugins())
        if session.data.skipped:
            names = ", ".join(session.data.skipped[:3])
            progress.warn(f"{len(session.data.skipped)} files did not decode and were left out: {names} ...")
        stored = StoredStudy.create_or_load(config, session.facts)
        session.ensure_profile(stored, progress)
        session.ensure_teacher(stored, progress)
        if stored.finished() < config.trials:
            progress.phase("Searching")
            with _siblings(config, stored) as lock:
                run_trials(session, stored, progress, lock=lock, deadline=deadline)
        torch.set_num_threads(available_cores())
        finish(session, stored, progress)
        session.registry.hooks.hook.study_finished(study=stored.study, evaluations=front_evaluations(stored))
    return stored


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _storage_errors() -> Iterator[None]:
    """A database that fails under way is said in one line, with the remedy."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        text = str(getattr(cause, "orig", None) or cause or error).strip().splitlines()[0]
        raise StorageError(
            f"the study's database failed: {text}; check space and permissions, then run the same command again"
        ) from error


@contextmanager
def _cores_shared_out(workers: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, available_cores() // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _siblings(config: StudyConfig, stored: StoredStudy) -> Iterator[AbstractContextManager[Any]]:
    """The other workers of `--workers`, as processes on this machine; waits for them at the end."""
    spawn = multiprocessing.get_context("spawn")
    lock = spawn.Lock()
    processes = [
        spawn.Process(target=_work, args=(config.model_dump_json(), lock), daemon=True)
        for _ in range(config.workers - 1)
    ]
    for process in processes:
        process.start()
    try:
        yield lock
    finally:
        for process in processes:
            process.join()
    if any(p.exitcode for p in processes):
        codes = [p.exitcode for p in processes]
        raise NasEdgeError(f"workers ended with exit codes {codes}; their trials were queued again")


def _work(config_json: str, lock: AbstractContextManager[Any]) -> None:
    """A sibling worker: the same loop on the stored study."""
    config = StudyConfig.model_validate_json(config_json)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(max(1, available_cores() // config.workers))
    session = Session.open(config, load_plugins())
    stored = StoredStudy.create_or_load(config, session.facts)
    session.ensure_profile(stored, Progress())
    session.ensure_teacher(stored, Progress())
    try:
        run_trials(session, stored, Progress(), lock=lock)
    except KeyboardInterrupt:
        raise SystemExit(0) from None
