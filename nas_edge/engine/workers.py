"""The other workers of `--workers`: processes on this machine that run the same loop on the stored study.

Little is imported before a worker runs, so that an interrupt meets it only when it is ready for one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas_edge.engine.progress import Progress
    from nas_edge.store.study import StoredStudy


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def siblings(stored: StoredStudy, progress: Progress, deadline: float | None) -> Iterator[None]:
    """Run `config.workers - 1` more workers during the block, and wait for them at its end.

    Where the block ends with an error or an interrupt they are ended at once, and their trials queued again.
    """
    spawn = multiprocessing.get_context("spawn")
    given = (stored.config.model_dump_json(), deadline)
    processes = [spawn.Process(target=_work, args=given, daemon=True) for _ in range(stored.config.workers - 1)]
    for process in processes:
        process.start()
    try:
        yield
    except BaseException:
        for process in processes:
            process.terminate()
            process.join()
        stored.requeue_dead(stored.trials())
        raise
    for process in processes:
        process.join()
    if codes := [p.exitcode for p in processes if p.exitcode]:
        progress.warn(f"{len(codes)} workers ended early (exit codes {codes}); the others did their trials")


def _work(config_json: str, deadline: float | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that started this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import optuna
    import torch

    from nas_edge.config import StudyConfig
    from nas_edge.engine.ending import reached_by_prediction
    from nas_edge.engine.given import ensure_given
    from nas_edge.engine.loop import run_trials
    from nas_edge.engine.progress import Progress
    from nas_edge.engine.session import Session
    from nas_edge.errors import NasEdgeError
    from nas_edge.plugins import load_plugins
    from nas_edge.store.study import StoredStudy

    config = StudyConfig.model_validate_json(config_json)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(max(1, available_cores() // config.workers))
    try:
        session = Session.open(config, load_plugins())
        stored = StoredStudy.create_or_load(config, session.facts)
        ensure_given(session, stored, Progress())
        session.ensure_supernet(stored, Progress())
        session.ensure_profile(stored, Progress())
        session.ensure_teacher(stored, Progress())
        run_trials(session, stored, Progress(), deadline=deadline, after_trial=reached_by_prediction(stored))
    except NasEdgeError as error:
        print(f"a worker ended: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


def _end_with_parent() -> None:
    """A worker whose parent was killed ends too; its trial is queued again by whoever goes on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
