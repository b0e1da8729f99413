"""This machine, measured by an agent in a fresh process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas_edge import agent
from nas_edge.contracts import Target
from nas_edge.errors import MeasurementError, UserError
from nas_edge.latency.samples import summarise
from nas_edge.records import Measurement
from nas_edge.targets.address import Address, parse_threads
from nas_edge.targets.campaign import Campaign
from nas_edge.targets.client import AgentClient, AgentRefusal

# What would change the threads of the process behind the session options' back.
NEUTRAL = ("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "ORT_", "PYTHON")


class LocalTarget(Target):
    """This machine's CPU through ONNX Runtime, at `threads` threads."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = parse_threads(str(threads))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if self.threads > cores:
            raise UserError(f"threads is {threads}, but this process may use {cores} cores; give at most {cores}")
        self.name = "local" if self.threads == 1 else f"local?threads={self.threads}"
        self._fingerprint: dict[str, Any] | None = None

    @classmethod
    def from_address(cls, text: str) -> LocalTarget:
        """`local` or `local?threads=2`. Raises `UserError` for anything else."""
        address = Address.parse(text)
        if address.place:
            raise UserError(f"target {text!r}: local takes no host; write local or local?threads=2")
        unknown = sorted(set(address.options) - {"threads"})
        if unknown:
            raise UserError(f"target {text!r}: local has no option {unknown[0]!r}; it has threads")
        return cls(parse_threads(address.options.get("threads", "1")))

    def fingerprint(self) -> dict[str, Any]:
        if self._fingerprint is None:
            with self._agent() as client:
                self._fingerprint = client.hello()
        return dict(self._fingerprint)

    @contextmanager
    def campaign(self, seed: int = 0) -> Iterator[Campaign]:
        """A fresh agent to which models can be added and visited; it ends with the block."""
        with self._agent() as client:
            try:
                self._fingerprint = client.hello()
                # A second thread's work is not in the caller's processor time.
                campaign = Campaign(client, use_cpu_time=self.threads == 1, seed=seed)
            except AgentRefusal as error:
                raise MeasurementError(f"{self.name}: {error}") from None
            yield campaign

    def measure(self, model: Path, budget_s: float) -> Measurement:
        return self.measure_many([model], budget_s)[0]

    def measure_many(self, models: Sequence[Path], budget_s: float) -> list[Measurement]:
        """All files in one interleaved campaign. Raises `ModelError` or `MeasurementError`."""
        with self.campaign() as campaign:
            for model in models:
                campaign.add(Path(model))
            campaign.run(budget_s * len(models))
            reference_ms = campaign.reference_ms()
            summaries = [summarise(visits, reference_ms) for visits in campaign.visits]
        return [
            Measurement(
                p50_ms=s.p50_ms,
                p90_ms=s.p90_ms,
                low_ms=s.low_ms,
                high_ms=s.high_ms,
                samples=s.samples,
                target=self.name,
                fingerprint=self.fingerprint(),
                unstable_because=s.unstable_because,
            )
            for s in summaries
        ]

    def _agent(self) -> AgentClient:
        env = {key: value for key, value in os.environ.items() if not key.startswith(NEUTRAL)}
        # The file itself, with its folder off the path: the agent needs nothing of nas_edge.
        command = [sys.executable, "-P", str(Path(agent.__file__).resolve()), f"--threads={self.threads}"]
        return AgentClient(command, env)
