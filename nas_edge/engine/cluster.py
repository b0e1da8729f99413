"""The workers of a study as tasks of a Ray cluster: Optuna's storage stays the record, Ray finds the machines.

A node that dies takes its tasks with it; Ray starts them elsewhere, and what they had in hand is done again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import sqlalchemy as sa

from nas_edge.engine.loop import report
from nas_edge.engine.supervisor import Supervisor
from nas_edge.engine.workers import COMMAND, job, warn_of
from nas_edge.errors import UserError

if TYPE_CHECKING:
    from nas_edge.config import StudyConfig
    from nas_edge.engine.progress import Progress
    from nas_edge.store.study import StoredStudy

POLL_S = 2.0
FORMS = "ray, ray://HOST:PORT or ray://auto, with ?cpus=N&gpus=N for each worker"


@dataclass(frozen=True)
class RayCluster:
    """Where the workers run: `address` as Ray takes it, None for a cluster of this machine alone."""

    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    @classmethod
    def of(cls, config: StudyConfig) -> RayCluster:
        """That of `config.on`. Raises `UserError` where it makes no sense, or its nodes could not share the study."""
        cluster = cls.parse(config.on or "ray")
        if cluster.address is not None and sa.make_url(config.storage_url).get_backend_name() == "sqlite":
            raise UserError(
                f"--on is {config.on!r}, whose machines cannot share a SQLite file; give --storage postgresql://..., "
                "and --artifacts s3://BUCKET or an --out that all of them mount"
            )
        return cluster

    @classmethod
    def parse(cls, text: str) -> RayCluster:
        """`ray`, `ray://ADDRESS`, each with `?cpus=N&gpus=N`. Raises `UserError` naming what is wrong."""
        parts = urlsplit(text if "://" in text else text.replace("ray", "ray://", 1))
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            cpus, gpus = float(given.pop("cpus", 1.0)), float(given.pop("gpus", 0.0))
        except ValueError:
            cpus, gpus = 0.0, 0.0
        if parts.scheme != "ray" or parts.path or given or not (cpus > 0 and gpus >= 0):
            raise UserError(f"--on is {text!r}; use {FORMS}")
        address = {"": None, "auto": "auto"}.get(parts.netloc, f"ray://{parts.netloc}")
        return cls(address, cpus, gpus)

    def run(self, stored: StoredStudy, progress: Progress, deadline: float | None) -> None:
        """Run `config.workers` workers until they have done the study's trials. Raises `UserError` without Ray."""
        try:
            import ray
        except ImportError:
            raise UserError("--on ray needs Ray; install it with: pip install 'nas-edge[ray]'") from None
        ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            config = stored.config.model_copy(update={"storage": stored.url, "out": str(stored.folder.resolve())})
            given = job(config, deadline, threads=max(1, round(self.cpus)))
            task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=-1)(_work)
            waiting = [task.remote(given) for _ in range(config.workers)]
            statuses: list[int] = []
            finished = -1
            while waiting and finished < config.trials:  # a worker that still waits for a node has nothing to do then
                done, waiting = ray.wait(waiting, timeout=POLL_S)
                statuses += ray.get(done)
                if stored.finished() > finished:
                    finished = stored.finished()
                    report(stored, stored.trials(), progress)
        finally:
            ray.shutdown()
        warn_of(statuses, progress)


def _work(given: str) -> Any:
    """One worker, wherever Ray has put it."""
    return Supervisor(COMMAND, given).run()
