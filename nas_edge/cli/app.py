"""Which commands there are. Their modules import neither torch nor onnxruntime: that happens when a command runs."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import traceback
from typing import Annotated, Any

import typer

from nas_edge import __version__
from nas_edge.cli.complete import VARIABLE, words
from nas_edge.cli.output import console, only_results_on_stdout, without_collection
from nas_edge.errors import UserError
from nas_edge.plugins import Registry, load_plugins

USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]  # click's UsageError; typer gives it no public name

NAME = "nas-edge"
EARLY = {"--version", "--install-completion", "--show-completion"}  # they need no command

# What is a command in each module: functions, and groups of them. An underscore becomes a hyphen.
COMMANDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("nas_edge.cli.init", ("init",)),
    ("nas_edge.cli.study", ("search", "resume", "worker")),
    ("nas_edge.cli.show", ("show",)),
    ("nas_edge.cli.export", ("export",)),
    ("nas_edge.cli.compress", ("compress",)),
    ("nas_edge.cli.report", ("report",)),
    ("nas_edge.cli.calibrate", ("calibrate",)),
    ("nas_edge.cli.latency", ("measure", "predict")),
    ("nas_edge.cli.dashboard", ("dashboard",)),
    ("nas_edge.cli.inspect", ("plugins", "spaces")),
    ("nas_edge.cli.new_plugin", ("new_plugin",)),
    ("nas_edge.cli.targets", ("targets", "agent")),
    ("nas_edge.cli.upgrade", ("upgrade",)),
    ("nas_edge.cli.proxy", ("storage_proxy",)),
    ("nas_edge.cli.doctor", ("doctor",)),
)

LOOKING = (["show"], ["report"])  # those that read much, and end


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nas-edge {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Search for the most accurate vision model that runs within a latency budget on your CPU."""


def command_line(arguments: list[str]) -> Any:
    """The command line as a click group: where a command of ours comes first with it alone, else with all of them.

    Plugins' commands are there too, unless one of ours is asked for.
    """
    first = arguments[0] if arguments else None
    app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
    app.callback()(_root)
    ours = {name.replace("_", "-") for _, names in COMMANDS for name in names}
    for module, names in COMMANDS:
        for name in names:
            shown = name.replace("_", "-")
            if first in ours and first != shown:
                continue
            command = getattr(importlib.import_module(module), name)
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=shown)
            else:
                app.command(shown)(command)
    if first not in ours | EARLY:
        _add_plugin_commands(app, ours, load_plugins())
    return typer.main.get_command(app)


def _add_plugin_commands(app: typer.Typer, taken: set[str], registry: Registry) -> None:
    """Ask each plugin for its commands. One that fails is reported and costs only its own commands."""
    for plugin in registry.plugins:
        module = registry.hooks.get_plugin(plugin.name)
        others = [p for p in registry.hooks.get_plugins() if p is not module]
        own = typer.Typer()
        try:
            registry.hooks.subset_hook_caller("register_commands", others)(cli=own)
        except Exception as error:
            console.print(f"warning: the commands of plugin {plugin.name!r} are left out: {error!r}", markup=False)
            console.print(traceback.format_exc(), markup=False, style="dim")
            continue
        for command in own.registered_commands:
            name = command.name or getattr(command.callback, "__name__", "").replace("_", "-")
            if name in taken:
                console.print(
                    f"warning: plugin {plugin.name!r} has a command {name!r}, and so has another; it is left out"
                )
                continue
            taken.add(name)
            app.registered_commands.append(command)
        app.registered_groups.extend(own.registered_groups)


def run(arguments: list[str]) -> int:
    """Parse the arguments and call the command; its exit status. Raises `UserError` for arguments that make no sense.

    Typer's own `main` would turn Ctrl-C and errors into panels and exit statuses of its own.
    """
    if VARIABLE in os.environ:  # a shell asks for words, and typer answers and exits
        command_line(words(os.environ)).main(prog_name=NAME)
    command = command_line(arguments)
    try:
        with (
            without_collection() if arguments[:1] in LOOKING else contextlib.nullcontext(),
            only_results_on_stdout() if "--json" in arguments else contextlib.nullcontext(),
            command.make_context(NAME, arguments or ["--help"]) as context,
        ):
            command.invoke(context)
    except typer.Exit as done:  # --help and --version end so too
        return done.exit_code
    except USAGE_ERROR as error:
        raise UserError(usage_message(error)) from error
    return 0


def usage_message(error: Exception) -> str:
    """What was wrong with the command line, and where its help is."""
    text = str(getattr(error, "format_message", error.__str__)()).strip().rstrip(".")
    text = re.sub(r" \(Possible options: (.*)\)$", r"; did you mean \1?", text)
    text = re.sub(r"\. Did you mean", "; did you mean", text)
    details = getattr(error.__cause__, "errors", None)  # pydantic's: typer leaves out the value that was given
    if callable(details):
        text += f" (it is {details()[0]['input']!r})"
    context = getattr(error, "ctx", None)
    help_command = f"`{context.command_path if context else 'nas-edge'} --help`"
    return f"{text[:1].lower()}{text[1:]}" + (" See " if text.endswith("?") else "; see ") + help_command
