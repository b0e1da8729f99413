"""Devices to run on: the registered schemes, of which `local` is this machine."""

from __future__ import annotations

from collections.abc import Callable

from nas_edge.contracts import Target
from nas_edge.hookspecs import hookimpl


def _local(address: str) -> Target:
    """This machine; threads and provider are options: local?threads=2."""
    from nas_edge.targets.local import LocalTarget

    return LocalTarget.from_address(address)


def _ssh(address: str) -> Target:
    """A device that ssh reaches: ssh://user@host; it needs Python, numpy and onnxruntime."""
    from nas_edge.targets.ssh import SshTarget

    return SshTarget.from_address(address)


@hookimpl
def register_targets(register: Callable[[str, Callable[[str], Target]], None]) -> None:
    register("local", _local)
    register("ssh", _ssh)
