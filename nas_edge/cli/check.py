"""`nas-edge plugins check`: the conformance kit on an installed plugin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from nas_edge.cli.output import console, emit, table
from nas_edge.errors import PluginError, unknown_name
from nas_edge.plugins import PluginInfo, Registry, load_plugins

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nas_edge.testing.running import CheckResult

STYLES = {"passed": "green", "failed": "bold red", "skipped": "dim"}


def check_plugin(name: str, as_json: bool) -> None:
    """Run the checks, show what came of each, and end with status 2 where one failed.

    Raises `UserError` for a plugin that is unknown or broken, and where pytest is not installed.
    """
    plugin = find_plugin(load_plugins(), name)  # before torch is imported
    import optuna

    from nas_edge.testing.running import check_installed

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with console.status(f"checking {name}") as status:
        results = check_installed(plugin, lambda result: status.update(f"{result.subject}: {result.check}"))
    counts = Counter(result.outcome for result in results)
    payload = {
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "distribution_version": plugin.version,
        **{outcome: counts[outcome] for outcome in STYLES},
        "checks": [
            {
                "subject": result.subject,
                "check": result.check,
                "outcome": result.outcome,
                "message": result.message,
                "seconds": round(result.seconds, 3),
            }
            for result in results
        ],
    }
    emit(payload, as_json, lambda: _view(results, counts))
    if counts["failed"]:
        raise typer.Exit(2)


def find_plugin(registry: Registry, name: str) -> PluginInfo:
    """The plugin of this name, or of the distribution of this name where it has but one."""
    found = [info for info in registry.plugins if info.name == name]
    found = found or [info for info in registry.plugins if info.distribution == name]
    if len(found) == 1:
        return found[0]
    for broken in registry.broken:
        if name in (broken.name, broken.distribution):
            raise PluginError(f"plugin {name!r} is broken: {broken.reason}; `nas-edge plugins` shows its traceback")
    raise unknown_name("plugin", name, [info.name for info in registry.plugins])


def _view(results: Sequence[CheckResult], counts: Counter[str]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    made = table("check", "", ">seconds")
    for subject in dict.fromkeys(result.subject for result in results):
        made.add_row(Text(subject, "bold"))
        for result in results:
            if result.subject == subject:
                outcome = Text(result.outcome, STYLES[result.outcome])
                made.add_row(Text(f"  {result.check}"), outcome, f"{result.seconds:.1f}")
    failures = [
        Text.assemble("\n", (f"{result.subject}: {result.check}", "bold"), "\n  ", result.message)
        for result in results
        if result.outcome == "failed"
    ]
    reasons: dict[str, list[str]] = {}
    for result in results:
        if result.outcome == "skipped":
            reasons.setdefault(result.message, []).append(result.check)
    skipped = [Text(f"\nskipped: {', '.join(checks)}\n  {reason}", "dim") for reason, checks in reasons.items()]
    ends = ", ".join(f"{counts[outcome]} {outcome}" for outcome in STYLES)
    return Group(made, *skipped, *failures, Text(f"\n{ends}"))
