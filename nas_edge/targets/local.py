"""This machine, measured by agents in fresh processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas_edge import agent
from nas_edge.errors import UserError
from nas_edge.machine_lock import measuring
from nas_edge.targets.address import Address
from nas_edge.targets.campaign import Campaign
from nas_edge.targets.device import AgentOptions, AgentTarget, parse_options
from nas_edge.targets.process import AgentProcess


class LocalTarget(AgentTarget):
    """This machine's CPU through ONNX Runtime: `local`, `local?threads=2&provider=CPUExecutionProvider`."""

    scheme = "local"

    def __init__(self, **options: object) -> None:
        parsed = parse_options(AgentOptions, self.scheme, options)
        cores = len(agent.cores())
        if parsed.threads > cores:
            raise UserError(
                f"threads is {parsed.threads}, but this process may use {cores} cores; give at most {cores}"
            )
        super().__init__("", parsed)

    @classmethod
    def from_address(cls, text: str) -> LocalTarget:
        """The target at an address of the scheme `local`. Raises `UserError` naming what is wrong with it."""
        address = Address.parse(text)
        if address.place:
            raise UserError(f"target {text!r}: local takes no host; write local or local?threads=2")
        try:
            return cls(**address.options)
        except UserError as error:
            raise UserError(f"target {text!r}: {error}") from None

    @contextmanager
    def campaign(self, seed: int = 0, *, homes: int | None = None) -> Iterator[Campaign]:
        """What else this user's processes train or judge on this machine pauses meanwhile."""
        with measuring() as alone, super().campaign(seed, homes=homes) as campaign:
            campaign.alone = alone
            yield campaign

    def start(self) -> AgentProcess:
        env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        # The file itself, with its folder off the path: the agent needs nothing of nas_edge.
        command = [sys.executable, "-P", str(Path(agent.__file__).resolve()), *self.agent_arguments()]
        return AgentProcess(command, env)
