"""`nas-edge targets`: the devices that can be measured, and names for them; `nas-edge agent`, which runs on them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_edge.cli import complete
from nas_edge.cli.inspect import JsonFlag, listing, local_fingerprint
from nas_edge.errors import UserError
from nas_edge.plugins import Registry, load_plugins

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nas_edge.contracts import Target
    from nas_edge.targets.names import Named

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

targets = typer.Typer(help="List the devices that can be measured, or give names to them.")


@targets.callback(invoke_without_command=True)
def _list(context: typer.Context, as_json: JsonFlag = False) -> None:
    from nas_edge.cli.output import emit
    from nas_edge.targets.names import load_names

    if context.invoked_subcommand is not None:
        return
    registry, names = load_plugins(), load_names()
    listed = listing(registry, "targets")
    local, problem = local_fingerprint(registry)
    payload = {
        "targets": listed,
        "names": [_row(name, named) for name, named in names.items()],
        "local": local,
        "problem": problem,
    }
    emit(payload, as_json, lambda: _view(listed, names, local, problem))


@targets.command()
def add(
    name: Annotated[str, typer.Argument(help="What to call the device wherever --target is given.")],
    address: Annotated[str, typer.Argument(help="Where it is, as in ssh://pi@board?threads=4.")],
    install: Annotated[
        bool, typer.Option("--install", help="Install numpy and onnxruntime there, in a venv, where they are missing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Give a device a name, after seeing that it answers. The agent is copied to it."""
    from nas_edge.cli.output import emit
    from nas_edge.targets.names import Named, save_name

    registry = load_plugins()
    _check_name(name, registry)
    target, address = _answering(registry, address, name, install)
    named = Named(address, in_words(target.fingerprint()))
    save_name(name, named)
    emit({**_row(name, named), "fingerprint": target.fingerprint()}, as_json, lambda: _added(name, named))


@targets.command()
def remove(
    name: Annotated[str, typer.Argument(help="The name to forget.", autocompletion=complete.named_targets)],
    as_json: JsonFlag = False,
) -> None:
    """Forget a name. What was installed or copied to the device stays there."""
    from nas_edge.cli.output import emit
    from nas_edge.targets.names import remove_name

    named = remove_name(name)
    emit({"removed": name, "address": named.address}, as_json, lambda: f"{name} ({named.address}) is forgotten")


def agent(
    threads: Annotated[int, typer.Option(help="Threads of ONNX Runtime.", min=1)] = 1,
    provider: Annotated[str, typer.Option(help="Execution provider of ONNX Runtime.")] = "CPUExecutionProvider",
    max_model_mb: Annotated[int, typer.Option(help="Largest model.", min=1)] = 512,
    max_run_s: Annotated[float, typer.Option(help="Longest run.", min=0.001)] = 30.0,
    max_memory_mb: Annotated[int, typer.Option(help="Memory; 0: three quarters of what there is.", min=0)] = 0,
) -> None:
    """Measure models here for another process, which speaks frames over standard input and output."""
    from nas_edge.agent import main

    arguments = {
        "threads": threads,
        "provider": provider,
        "max-model-mb": max_model_mb,
        "max-run-s": max_run_s,
        "max-memory-mb": max_memory_mb,
    }
    raise typer.Exit(main([f"--{name}={value}" for name, value in arguments.items()]))


def in_words(fingerprint: Mapping[str, Any]) -> str:
    """What a latency of this device holds for, in one line."""
    parts = [
        str(fingerprint.get("cpu", "unknown CPU")),
        f"{fingerprint.get('threads', '?')} threads",
        f"onnxruntime {fingerprint.get('onnxruntime', '?')}",
        str(fingerprint.get("provider", "?")),
    ]
    return ", ".join(parts).replace(", 1 threads,", ", 1 thread,")


def _check_name(name: str, registry: Registry) -> None:
    if not NAME.fullmatch(name):
        raise UserError(f"the name {name!r} will not do; use letters, digits, underscores and hyphens")
    if name in registry.targets:
        raise UserError(f"{name!r} is a kind of target already; choose another name")


def _answering(registry: Registry, address: str, name: str, install: bool) -> tuple[Target, str]:
    """The target, once it answers and has what the agent needs; and its address, as it is to be stored."""
    from nas_edge.cli.output import console
    from nas_edge.targets.address import parse_target
    from nas_edge.targets.device import AgentTarget, MissingPackages
    from nas_edge.targets.ssh import SshTarget

    target = parse_target(registry.targets, address)
    try:
        target.fingerprint()
    except MissingPackages as error:
        if not isinstance(target, SshTarget):
            raise
        if not install:
            raise UserError(f"{error}; `nas-edge targets add {name} '{address}' --install` installs them") from None
        console.print(f"{error}: installing them, some minutes", markup=False, soft_wrap=True)
        target = target.install()
        target.fingerprint()
    return target, target.name if isinstance(target, AgentTarget) else address


def _row(name: str, named: Named) -> dict[str, str]:
    return {"name": name, "address": named.address, "device": named.device}


def _added(name: str, named: Named) -> str:
    return f"{name}: {named.address}\n{named.device}"


def _view(
    listed: Sequence[Mapping[str, Any]],
    names: Mapping[str, Named],
    local: Mapping[str, Any] | None,
    problem: str | None,
) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from nas_edge.cli.output import facts, table

    kinds = table("target", "what it is", "plugin")
    for row in listed:
        kinds.add_row(Text(row["name"], "bold"), Text(row["summary"]), Text(row["plugin"]))
    parts: list[RenderableType] = [kinds]
    if names:
        named = table("\nname", "\naddress", "\ndevice, when it was added")
        for name, value in names.items():
            named.add_row(Text(name, "bold"), Text(value.address), Text(value.device))
        parts.append(named)
    if local is None:
        return Group(*parts, Text(f"\nno target for this machine: {problem}", "yellow"))
    return Group(*parts, Text("\nlocal: a latency measured here holds for", "bold"), facts(local))
