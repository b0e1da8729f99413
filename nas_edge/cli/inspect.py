"""The commands that look around: what is installed, what can be searched, where it runs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_edge.cli import complete
from nas_edge.contracts import Scope
from nas_edge.engine.ranges import DRAWS, Recorder, described
from nas_edge.errors import NasEdgeError
from nas_edge.plugins import OWN_DISTRIBUTION, BrokenPlugin, Registry, load_plugins

if TYPE_CHECKING:
    from rich.console import RenderableType

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
# Key in the JSON object: the registry's word for one of the kind, which its tables are kept by.
KINDS = {
    "techniques": "technique",
    "search_spaces": "search space",
    "targets": "target",
    "samplers": "sampler",
    "datasets": "data set",
}
TITLES = {"search_spaces": "search spaces", "datasets": "data sets"}


plugins = typer.Typer(help="List what is installed and the plugins that do not work, or check one.")


@plugins.callback(invoke_without_command=True)
def _list(context: typer.Context, as_json: JsonFlag = False) -> None:
    from nas_edge.cli.output import emit

    if context.invoked_subcommand is not None:
        return
    registry = load_plugins()
    listed = {key: listing(registry, key) for key in KINDS}
    emit({**listed, "broken": registry.broken}, as_json, lambda: _plugins_view(listed, registry.broken))


@plugins.command()
def check(
    name: Annotated[
        str,
        typer.Argument(
            help="The plugin, as `nas-edge plugins` names it, or its distribution.", autocompletion=complete.plugins
        ),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Run the conformance kit on a plugin and all that it registers. Exit status 2 where a check fails."""
    from nas_edge.cli.check import check_plugin

    check_plugin(name, as_json)


def spaces(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this search space.", autocompletion=complete.spaces)
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what each search space chooses from."""
    from nas_edge.cli.output import emit

    registry = load_plugins()
    if name is not None:
        registry.find("search space", name)
    found = [
        {**row, "parameters": parameters(registry, row["name"])}
        for row in listing(registry, "search_spaces")
        if name in (None, row["name"])
    ]
    emit({"search_spaces": found}, as_json, lambda: _spaces_view(found))


def local_fingerprint(registry: Registry) -> tuple[dict[str, Any] | None, str | None]:
    """The fingerprint of the target `local`, or why there is none."""
    try:
        return dict(registry.find("target", "local")("local").fingerprint()), None
    except NasEdgeError as error:
        return None, str(error)


def summary(value: Any) -> str:
    """One line about something registered: its own `summary`, or the first line of its docstring."""
    own = getattr(value, "summary", "")
    described = getattr(value, "func", value)  # functools.partial has a docstring about partial
    documented = described if callable(described) else type(described)
    text = str(own or getattr(documented, "__doc__", None) or "").strip()
    return text.splitlines()[0] if text else ""


def parameters(registry: Registry, space: str) -> list[dict[str, Any]]:
    """What a search space samples, found by sampling it: name, type, range or choices, conditional or not."""
    recorder = Recorder(random.Random(0))
    found = registry.find("search space", space)
    for _ in range(DRAWS):
        found.suggest(Scope(recorder, space))
    rows = [{**seen, "conditional": recorder.counts[name] < DRAWS} for name, seen in recorder.seen.items()]
    groups = list(dict.fromkeys(_owner(row) for row in rows))  # a late draw may be the first to meet a conditional one
    return sorted(rows, key=lambda row: groups.index(_owner(row)))


def _owner(parameter: Mapping[str, Any]) -> str:
    """What a parameter belongs to: `mobilenet.stage2` of `mobilenet.stage2.kernel`."""
    return str(parameter["name"]).rpartition(".")[0]


def listing(registry: Registry, key: str) -> list[dict[str, Any]]:
    """What is registered of one kind (a key of `KINDS`), with where it comes from."""
    table: Mapping[str, Any] = getattr(registry, key)
    rows = []
    for name, value in table.items():
        owner = registry.owners[KINDS[key], name]
        version = {"version": value.version} if hasattr(value, "version") else {}
        rows.append(
            {
                "name": name,
                **version,
                "summary": summary(value),
                "plugin": owner.name,
                "distribution": owner.distribution,
                "distribution_version": owner.version,
            }
        )
    return rows


def _plugins_view(listed: Mapping[str, list[dict[str, Any]]], broken: Sequence[BrokenPlugin]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from nas_edge.cli.output import table

    made = table("name", ">version", "from", "what it is")
    for key, rows in listed.items():
        made.add_row(Text(TITLES.get(key, key), "bold"))
        for row in rows:
            cells = [f"  {row['name']}", str(row.get("version", "")), _source(row), row["summary"]]
            made.add_row(*map(Text, cells))
        made.add_row(*([] if rows else [Text("  none", "dim")]))
    if not broken:
        return Group(made, Text("Every plugin works.", "green"))
    parts: list[RenderableType] = [made, Text("Left out, because they are broken:", "bold red")]
    for plugin in broken:
        parts.append(Text.assemble((f"\n{plugin.name}", "bold"), f" ({plugin.distribution}): {plugin.reason}"))
        parts.append(Text(plugin.traceback.rstrip(), "dim"))
    return Group(*parts)


def _source(row: Mapping[str, Any]) -> str:
    if row["distribution"] == OWN_DISTRIBUTION:
        return "built in"
    return f"{row['plugin']}, of {row['distribution']} {row['distribution_version']}"


def _spaces_view(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from nas_edge.cli.output import table

    parts: list[RenderableType] = []
    for space in found:
        parts.append(Text.assemble((space["name"], "bold"), f"  version {space['version']}  {space['summary']}"))
        made = table("  parameter", "values", "")
        for row in space["parameters"]:
            made.add_row(
                Text(f"  {row['name']}"),
                Text(described(row)),
                Text("conditional" if row["conditional"] else "", "dim"),
            )
        parts.extend([made if space["parameters"] else Text("  one architecture, nothing to choose"), Text()])
    return Group(*parts) if parts else Text("no search space is installed")
