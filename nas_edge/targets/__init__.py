"""Devices to run on: the registered schemes, of which `local` is this machine."""

from __future__ import annotations

from collections.abc import Callable

from nas_edge.contracts import Target
from nas_edge.hookspecs import hookimpl


def _local(address: str) -> Target:
    from nas_edge.targets.local import LocalTarget

    return LocalTarget.from_address(address)


@hookimpl
def register_targets(register: Callable[[str, Callable[[str], Target]], None]) -> None:
    register("local", _local)
