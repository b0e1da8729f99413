"""Loads the plugins of the entry-point group `nas_edge`, and holds what they register."""

from __future__ import annotations

import functools
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from nas_edge import hookspecs
from nas_edge.contracts import DataSource, SearchSpace, Target, Technique
from nas_edge.errors import NasEdgeError, PluginError, unknown_name

if TYPE_CHECKING:
    import optuna

GROUP = "nas_edge"
OWN_DISTRIBUTION = "nas-edge"
LOAD_VARIABLE = "NAS_EDGE_LOAD_PLUGINS"
TRACE_VARIABLE = "NAS_EDGE_TRACE_PLUGINS"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(-[A-Za-z0-9_]+)*")  # no dots or colons: parameters and addresses use them
REGISTERING_HOOKS = (
    "register_techniques",
    "register_search_spaces",
    "register_targets",
    "register_samplers",
    "register_datasets",
)


@dataclass(frozen=True)
class PluginInfo:
    """Where a plugin comes from."""

    name: str
    distribution: str
    version: str


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that was left out, and why."""

    name: str
    distribution: str
    reason: str
    traceback: str


@dataclass
class Registry:
    """Everything that plugins registered, by name, and the hooks to call."""

    hooks: pluggy.PluginManager
    techniques: dict[str, Technique] = field(default_factory=dict)
    search_spaces: dict[str, SearchSpace] = field(default_factory=dict)
    targets: dict[str, Callable[[str], Target]] = field(default_factory=dict)
    samplers: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = field(default_factory=dict)
    datasets: dict[str, DataSource] = field(default_factory=dict)
    plugins: list[PluginInfo] = field(default_factory=list)
    broken: list[BrokenPlugin] = field(default_factory=list)
    owners: dict[tuple[str, str], PluginInfo] = field(default_factory=dict)

    def find(self, kind: str, name: str) -> Any:
        """What is registered under a name. `kind` is "technique", "search space", "target", "sampler" or "data set".

        Raises `UserError` with the nearest name, or `PluginError` where the plugin of that name is broken.
        """
        tables: dict[str, dict[str, Any]] = {
            "technique": self.techniques,
            "search space": self.search_spaces,
            "target": self.targets,
            "sampler": self.samplers,
            "data set": self.datasets,
        }
        table = tables[kind]
        if name in table:
            return table[name]
        for broken in self.broken:
            if name == broken.name:
                raise PluginError(f"plugin {name!r} is broken: {broken.reason}; `nas-edge plugins` shows its traceback")
        raise unknown_name(kind, name, table)


def _selected(entry: EntryPoint) -> bool:
    """Outside plugins load unless NAS_EDGE_LOAD_PLUGINS names others; ours always do."""
    wanted = os.environ.get(LOAD_VARIABLE)
    if wanted is None or _distribution(entry) == OWN_DISTRIBUTION:
        return True
    return bool({entry.name, _distribution(entry)} & {w.strip() for w in wanted.split(",")})


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "?"


def _register_all(registry: Registry, name: str, info: PluginInfo) -> None:
    """Call the registering hooks of one plugin. What it registered counts only when all of it is sound."""
    plugin = registry.hooks.get_plugin(name)
    others = [p for p in registry.hooks.get_plugins() if p is not plugin]
    new: list[tuple[str, dict[str, Any], str, Any]] = []

    def add(kind: str, table: dict[str, Any], key: object, value: object) -> None:
        if not isinstance(key, str) or not NAME.fullmatch(key):
            raise PluginError(f"{kind} name {key!r} will not do; use letters, digits, underscores and hyphens")
        taken = registry.owners.get((kind, key))
        if taken or any(k == kind and n == key for k, _, n, _ in new):
            where = f"{taken.name} ({taken.distribution})" if taken else "the same plugin"
            raise PluginError(f"{kind} {key!r} is already registered by {where}; rename one of them")
        new.append((kind, table, key, value))

    def typed(kind: str, table: dict[str, Any], base: type) -> Callable[[Any], None]:
        def register(value: Any) -> None:
            if not isinstance(value, base):
                raise PluginError(f"a {kind} must be an instance of {base.__name__}, not {value!r}")
            if isinstance(value, Technique) and not is_dataclass(getattr(value, "config_type", None)):
                raise PluginError(f"{value!r} needs a `config_type` that is a frozen dataclass with defaults")
            add(kind, table, getattr(value, "name", None), value)

        return register

    def named(kind: str, table: dict[str, Any]) -> Callable[[str, Any], None]:
        def register(key: str, factory: Any) -> None:
            if not callable(factory):
                raise PluginError(f"{kind} {key!r} needs a callable that makes it, not {factory!r}")
            add(kind, table, key, factory)

        return register

    registers = (
        typed("technique", registry.techniques, Technique),
        typed("search space", registry.search_spaces, SearchSpace),
        named("target", registry.targets),
        named("sampler", registry.samplers),
        typed("data set", registry.datasets, DataSource),
    )
    for hook, register in zip(REGISTERING_HOOKS, registers, strict=True):
        registry.hooks.subset_hook_caller(hook, others)(register=register)
    for kind, table, key, value in new:
        table[key] = value
        registry.owners[kind, key] = info


def _order(entry: EntryPoint) -> tuple[bool, str, str, str]:
    """Ours first, then by name: the order of installation never matters."""
    return _distribution(entry) != OWN_DISTRIBUTION, entry.name, _distribution(entry), entry.value


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, NasEdgeError | pluggy.PluginValidationError):  # worded for a reader already
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _trace(hooks: pluggy.PluginManager) -> None:
    """Say of each hook call on standard error how long it took, and which plugins implement the hook.

    Of `apply_technique` also the technique and its stage. The time is that of all of them, wrappers included.
    """
    began: dict[int, float] = {}

    def before(hook: str, implementations: Sequence[Any], arguments: Mapping[str, Any]) -> None:
        began[id(arguments)] = time.perf_counter()

    def after(outcome: Any, hook: str, implementations: Sequence[Any], arguments: Mapping[str, Any]) -> None:
        ms = 1000 * (time.perf_counter() - began.pop(id(arguments)))
        technique = arguments.get("technique")
        what = f" {technique.name}.{arguments['stage']}" if technique is not None else ""
        names = ", ".join(str(one.plugin_name) for one in reversed(implementations)) or "no plugin"
        raised = f" raised {type(outcome.exception).__name__}" if outcome.exception is not None else ""
        print(f"trace: {ms:9.2f} ms  {hook}{what}: {names}{raised}", file=sys.stderr, flush=True)  # noqa: T201

    hooks.add_hookcall_monitoring(before, after)


def load_entries(entries: list[EntryPoint]) -> Registry:
    """A registry from entry points: sorted, ours first; one broken plugin is reported and left out."""
    hooks = pluggy.PluginManager("nas_edge")
    hooks.add_hookspecs(hookspecs)
    if os.environ.get(TRACE_VARIABLE, "0") not in ("", "0"):
        _trace(hooks)
    registry = Registry(hooks)
    for entry in sorted(entries, key=_order):
        if not _selected(entry):
            continue
        info = PluginInfo(entry.name, _distribution(entry), entry.dist.version if entry.dist else "?")
        plugin: Any = None
        try:
            if hooks.has_plugin(entry.name):
                raise PluginError(f"another plugin is named {entry.name!r}; rename the entry point")
            plugin = entry.load()
            if hooks.register(plugin, name=entry.name) is None:
                raise PluginError(f"plugin {entry.name!r} is blocked")
            hooks.check_pending()
            _register_all(registry, entry.name, info)
            registry.plugins.append(info)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # a plugin may even call sys.exit() on import
            if plugin is not None and hooks.get_plugin(entry.name) is plugin:
                hooks.unregister(plugin)
            reason = _reason(error).replace(repr(plugin), repr(entry.name))  # pluggy shows the object, not its name
            registry.broken.append(BrokenPlugin(entry.name, info.distribution, reason, traceback.format_exc()))
    return registry


@functools.cache
def load_plugins() -> Registry:
    """The registry of this process: every installed plugin, loaded once."""
    return load_entries(list(entry_points(group=GROUP)))
