"""The other workers of a study: processes of this machine (`--workers`) or of others that run the same loop.

Little is imported before a worker runs, so that an interrupt meets it only when it is ready for one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING

from nas_edge.engine.progress import Progress
from nas_edge.engine.supervised import attach, tell_end
from nas_edge.engine.supervisor import Supervisor
from nas_edge.errors import NasEdgeError, StorageError

if TYPE_CHECKING:
    from nas_edge.config import StudyConfig
    from nas_edge.engine.session import Session
    from nas_edge.store.study import StoredStudy

PATIENCE_S, POLL_S = 3600.0, 1.0
ENDED_BY_US = (128 + signal.SIGTERM, -signal.SIGTERM)  # on its way to its end, the second
COMMAND = (sys.executable, "-P", "-m", "nas_edge.engine.workers")


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def cores_shared_out(workers: int) -> Iterator[None]:
    """Let this process train on its share of the cores during the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(_share(workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def siblings(
    stored: StoredStudy,
    progress: Progress,
    workers: int,
    *,
    deadline: float | None = None,
    finals: Mapping[int, float] | None = None,
) -> Iterator[None]:
    """Run `workers - 1` more workers during the block, and wait for them at its end.

    With `finals` they train those trials for longer, in units of a candidate's training, in place of searching. Where
    the block ends with an error or an interrupt they are ended at once, and their trials queued again.
    """
    given = job(stored.config, deadline, threads=_share(workers), finals=finals)
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    supervisors = [Supervisor(COMMAND, given, path) for _ in range(workers - 1)]
    statuses: list[int] = []
    threads = [Thread(target=lambda s=s: statuses.append(s.run()), daemon=True) for s in supervisors]
    for thread in threads:
        thread.start()
    try:
        yield
    except BaseException:
        for supervisor in supervisors:
            supervisor.stop()
        for thread in threads:
            thread.join()
        from nas_edge.store.requeue import requeue_dead

        requeue_dead(stored, stored.trials())
        raise
    if finals is not None:  # they are all told: one that has only just started has nothing to do
        for supervisor in supervisors:
            supervisor.stop()
    for thread in threads:
        thread.join()
    warn_of([status for status in statuses if status not in ENDED_BY_US], progress)


def job(config: StudyConfig, deadline: float | None, threads: int, finals: Mapping[int, float] | None = None) -> str:
    """What a process of `COMMAND` is told on its standard input; `deadline` is of this machine's monotonic clock."""
    seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
    return json.dumps(
        {"config": config.model_dump(mode="json"), "seconds": seconds, "threads": threads, "finals": finals}
    )


def _share(workers: int) -> int:
    return max(1, available_cores() // workers)


def warn_of(statuses: Sequence[int], progress: Progress) -> None:
    """Say which workers failed, by the exit statuses of all."""
    if failed := [status for status in statuses if status]:
        progress.warn(f"{len(failed)} workers ended early (exit statuses {failed}); the others did their trials")


def join(config: StudyConfig, progress: Progress, deadline: float | None = None) -> StoredStudy:
    """Evaluate candidates of a stored study beside its other workers, until it has as many as were asked for.

    Its config, profile, teacher and supernet come from the database and the artifacts. Raises `StudyMismatch` where
    this machine's plugins, data or target are others, and `StorageError` where the study is not prepared in time.
    """
    from nas_edge.engine.ending import reached_by_prediction
    from nas_edge.engine.loop import run_trials
    from nas_edge.store.database import storage_errors

    with storage_errors():
        session, stored = _joined(config, progress)
        progress.phase("Searching")
        run_trials(session, stored, progress, deadline=deadline, after_trial=reached_by_prediction(stored))
    return stored


def _join_at_the_end(config: StudyConfig, progress: Progress, budgets: Mapping[int, float]) -> None:
    """Train finished trials of a stored study for longer, beside the process that ends it."""
    from nas_edge.engine.finals import finalise_all
    from nas_edge.store.database import storage_errors

    with storage_errors():
        session, stored = _joined(config, progress)
        finalise_all(session, stored, [stored.trial(number) for number in budgets], progress, budgets)


def _joined(config: StudyConfig, progress: Progress) -> tuple[Session, StoredStudy]:
    import optuna

    from nas_edge.engine.given import ensure_given
    from nas_edge.engine.session import Session
    from nas_edge.plugins import load_plugins
    from nas_edge.store.study import StoredStudy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    progress.phase("Loading the data")
    session = Session.open(config, load_plugins())
    stored = replace(StoredStudy.load(config.name, config.storage_url), config=config)
    stored.check(config, session.facts)
    stored.check_artifacts()
    _await_prepared(stored, progress)
    ensure_given(session, stored, progress)
    session.ensure_supernet(stored, progress)
    session.ensure_profile(stored, progress)
    session.ensure_teacher(stored, progress)
    return session, stored


def _await_prepared(stored: StoredStudy, progress: Progress) -> None:
    """Wait for the process that made the study: two would train two teachers."""
    since = time.monotonic()
    if not stored.is_prepared:
        progress.phase("Waiting for the study's teacher, supernet and latency profile")
    while not stored.is_prepared:
        if time.monotonic() - since > PATIENCE_S:
            raise StorageError(
                f"study {stored.config.name!r} was not prepared within {PATIENCE_S / 60:.0f} minutes; "
                "go on with the process that made it: nas-edge resume"
            )
        time.sleep(POLL_S)


class _Warnings(Progress):
    """What a worker has to say that no other knows: its own trials' warnings."""

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr, flush=True)  # noqa: T201


def _work() -> int:
    """A worker with the `job` that is on its standard input."""
    given, started = json.load(sys.stdin), time.monotonic()
    attach()
    import torch

    from nas_edge.config import StudyConfig

    config = StudyConfig.model_validate(given["config"])
    torch.set_num_threads(given["threads"])
    try:
        if given["finals"] is None:
            join(config, Progress(), None if given["seconds"] is None else started + given["seconds"])
        else:
            _join_at_the_end(config, _Warnings(), {int(number): share for number, share in given["finals"].items()})
    except KeyboardInterrupt:  # its supervisor is gone
        return 1
    except NasEdgeError as error:
        print(f"a worker ended: {error}", file=sys.stderr)  # noqa: T201
        return 2
    finally:
        tell_end()
    return 0


if __name__ == "__main__":
    sys.exit(_work())
