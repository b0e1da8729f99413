"""An agent in the process of the tests."""

from __future__ import annotations

import os

from nas_edge.agent import MAX_RUN_S, Agent


def agent_here(max_run_s: float = MAX_RUN_S) -> Agent:
    """One thread on the CPU. An agent binds its process to as many cores; this one keeps those that it had."""
    cores = os.sched_getaffinity(0)
    made = Agent(1, "CPUExecutionProvider", max_run_s)
    os.sched_setaffinity(0, cores)
    return made
