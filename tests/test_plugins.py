"""The loader: what works is kept whatever the rest does, and what is broken is named with its fault."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any

import pytest

from nas_edge.contracts import Technique
from nas_edge.errors import PluginError, UserError
from nas_edge.plugins import GROUP, LOAD_VARIABLE, OWN_DISTRIBUTION, Registry, load_entries, load_plugins

MakePlugin = Callable[..., EntryPoint]

TECHNIQUE = """
from dataclasses import dataclass
from nas_edge import Technique, hookimpl

@dataclass(frozen=True)
class Config:
    ratio: float = 0.5

class Mine(Technique):
    name = {name!r}
    config_type = Config

@hookimpl
def register_techniques(register):
    register(Mine())
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePlugin:
    """Makes an importable module, and an entry point to it as an installed distribution would have it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(LOAD_VARIABLE, raising=False)
    count = itertools.count()

    def make(name: str, source: str, distribution: str = "someones-plugin", module: str | None = None) -> EntryPoint:
        if module is None:
            module = f"made_{tmp_path.name.replace('-', '_')}_{next(count)}"
            (tmp_path / f"{module}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module, raising=False)
        return _entry(tmp_path, name, module, distribution)

    return make


def _entry(folder: Path, name: str, value: str, distribution: str) -> EntryPoint:
    """An entry point as importlib.metadata finds it, with its distribution."""
    info = folder / f"{distribution.replace('-', '_')}_{name}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {value}\n")
    (entry,) = Distribution.at(info).entry_points
    return entry


def _technique(name: str) -> str:
    return TECHNIQUE.format(name=name)


def _broken(registry: Registry) -> dict[str, str]:
    return {b.name: b.reason for b in registry.broken}


def test_a_plugin_registers_and_is_known_with_its_origin(plugin: MakePlugin) -> None:
    registry = load_entries([plugin("mine", _technique("mine"))])
    assert not registry.broken
    assert isinstance(registry.find("technique", "mine"), Technique)
    owner = registry.owners["technique", "mine"]
    assert (owner.name, owner.distribution, owner.version) == ("mine", "someones-plugin", "1.2")
    assert registry.plugins == [owner]


def test_the_order_of_installation_does_not_matter(plugin: MakePlugin) -> None:
    entries = [
        plugin("zeta", _technique("zeta"), OWN_DISTRIBUTION),
        plugin("alpha", _technique("alpha")),
        plugin("beta", _technique("beta"), "a-distribution"),
        plugin("gamma", _technique("alpha")),
    ]
    for order in itertools.permutations(entries):
        registry = load_entries(list(order))
        assert [p.name for p in registry.plugins] == ["zeta", "alpha", "beta"]
        assert list(registry.techniques) == ["zeta", "alpha", "beta"]
        assert list(_broken(registry)) == ["gamma"]


def test_a_broken_plugin_is_reported_and_the_others_work(plugin: MakePlugin) -> None:
    entries = [
        plugin("a_broken", "import no_such_library\n"),
        plugin("b_whole", _technique("whole")),
        plugin("c_missing", "", module="no_such_module"),
    ]
    registry = load_entries(entries)
    assert list(registry.techniques) == ["whole"]
    first, second = registry.broken
    assert first.name == "a_broken"
    assert first.distribution == "someones-plugin"
    assert first.reason == "ModuleNotFoundError: No module named 'no_such_library'"
    assert "import no_such_library" in first.traceback
    assert second.reason == "ModuleNotFoundError: No module named 'no_such_module'"
    with pytest.raises(PluginError, match=r"plugin 'a_broken' is broken: .*no_such_library.*nas-edge plugins"):
        registry.find("technique", "a_broken")


def test_a_plugin_that_exits_on_import_is_left_out(plugin: MakePlugin) -> None:
    registry = load_entries([plugin("quits", "import sys; sys.exit(3)"), plugin("whole", _technique("whole"))])
    assert _broken(registry) == {"quits": "SystemExit: 3"}
    assert list(registry.techniques) == ["whole"]


def test_ctrl_c_while_loading_is_not_taken_for_a_broken_plugin(plugin: MakePlugin) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_entries([plugin("interrupted", "raise KeyboardInterrupt")])


def test_a_duplicate_is_refused_by_name_and_the_first_is_kept(plugin: MakePlugin) -> None:
    ours = plugin("prune", _technique("prune"), OWN_DISTRIBUTION)
    registry = load_entries([plugin("another", _technique("prune")), ours])
    assert registry.owners["technique", "prune"].distribution == OWN_DISTRIBUTION
    assert _broken(registry) == {
        "another": "technique 'prune' is already registered by prune (nas-edge); rename one of them"
    }


def test_one_plugin_that_registers_a_name_twice_is_refused(plugin: MakePlugin) -> None:
    source = _technique("twin") + "    register(Mine())\n"
    registry = load_entries([plugin("twins", source)])
    assert not registry.techniques
    assert "'twin' is already registered by the same plugin" in _broken(registry)["twins"]


def test_two_entry_points_of_one_name_keep_the_first(plugin: MakePlugin) -> None:
    first = plugin("same", _technique("first"), "a-distribution")
    second = plugin("same", _technique("second"), "b-distribution")
    registry = load_entries([second, first])
    assert list(registry.techniques) == ["first"]
    assert registry.hooks.has_plugin("same")
    assert _broken(registry) == {"same": "another plugin is named 'same'; rename the entry point"}


def test_two_entry_points_to_one_module_keep_the_first(plugin: MakePlugin) -> None:
    first = plugin("first", _technique("mine"))
    registry = load_entries([plugin("second", "", module=first.value), first])
    assert list(registry.techniques) == ["mine"]
    assert registry.hooks.has_plugin("first")
    assert list(_broken(registry)) == ["second"]


@pytest.mark.parametrize(
    ("hook", "argument"),
    [("def register_techniques(registar)", "registar"), ("def candidate_finished(trial)", "trial")],
)
def test_a_wrong_signature_names_plugin_hook_and_argument(plugin: MakePlugin, hook: str, argument: str) -> None:
    registry = load_entries([plugin("wrong", f"from nas_edge import hookimpl\n@hookimpl\n{hook}: ...\n")])
    reason = _broken(registry)["wrong"]
    assert "'wrong'" in reason
    assert hook.split("(")[0].removeprefix("def ") in reason
    assert argument in reason
    assert not registry.hooks.has_plugin("wrong")


def test_an_unknown_hook_names_plugin_and_hook(plugin: MakePlugin) -> None:
    source = "from nas_edge import hookimpl\n@hookimpl\ndef register_technique(register): ...\n"
    registry = load_entries([plugin("wrong", source), plugin("x_whole", _technique("whole"))])
    assert _broken(registry) == {"wrong": "unknown hook 'register_technique' in plugin 'wrong'"}
    assert list(registry.techniques) == ["whole"]


def test_what_a_half_broken_plugin_registered_is_not_kept(plugin: MakePlugin) -> None:
    source = _technique("half") + "@hookimpl\ndef register_targets(register): raise RuntimeError('no device')\n"
    registry = load_entries([plugin("half", source), plugin("whole", _technique("half"))])
    assert _broken(registry) == {"half": "RuntimeError: no device"}
    assert registry.owners["technique", "half"].name == "whole"
    assert not registry.hooks.has_plugin("half")


@pytest.mark.parametrize(
    ("hook", "call", "reason"),
    [
        ("register_techniques", "register(object)", "a technique must be an instance of Technique, not"),
        ("register_techniques", "register(Technique)", "a technique must be an instance of Technique, not"),
        ("register_techniques", "register(Technique())", "`config_type`"),
        ("register_search_spaces", "register('mobilenet')", "a search space must be an instance of SearchSpace"),
        ("register_datasets", "register(None)", "a data set must be an instance of DataSource, not None"),
        ("register_targets", "register('ssh', 'me@there')", "target 'ssh' needs a callable that makes it"),
        ("register_samplers", "register('a.b', int)", "sampler name 'a.b' will not do"),
        ("register_samplers", "register(3, int)", "sampler name 3 will not do"),
        ("register_samplers", "register('', int)", "sampler name '' will not do"),
        ("register_samplers", "register('x')", "missing 1 required positional argument"),
    ],
)
def test_registering_what_is_not_one_is_refused(plugin: MakePlugin, hook: str, call: str, reason: str) -> None:
    source = f"from nas_edge import Technique, hookimpl\n@hookimpl\ndef {hook}(register):\n    {call}\n"
    registry = load_entries([plugin("wrong", source)])
    assert reason in _broken(registry)["wrong"]
    assert not registry.owners


@pytest.mark.parametrize("name", ["nsga2", "fashion-mnist", "low_rank", "Mine"])
def test_names_may_have_hyphens_and_underscores(plugin: MakePlugin, name: str) -> None:
    source = f"from nas_edge import hookimpl\n@hookimpl\ndef register_samplers(register): register({name!r}, int)\n"
    registry = load_entries([plugin("named", source)])
    assert not registry.broken
    assert list(registry.samplers) == [name]


@pytest.mark.parametrize(
    ("wanted", "loaded"),
    [
        (None, ["ours", "first", "second"]),
        ("", ["ours"]),
        ("first", ["ours", "first"]),
        ("b-distribution", ["ours", "second"]),
        ("first, second", ["ours", "first", "second"]),
        ("no-such", ["ours"]),
    ],
)
def test_the_environment_chooses_outside_plugins(
    plugin: MakePlugin, monkeypatch: pytest.MonkeyPatch, wanted: str | None, loaded: list[str]
) -> None:
    entries = [
        plugin("ours", _technique("ours"), OWN_DISTRIBUTION),
        plugin("first", _technique("first"), "a-distribution"),
        plugin("second", _technique("second"), "b-distribution"),
    ]
    if wanted is not None:
        monkeypatch.setenv(LOAD_VARIABLE, wanted)
    assert [p.name for p in load_entries(entries).plugins] == loaded


def test_an_object_can_be_a_plugin(plugin: MakePlugin) -> None:
    source = """
from nas_edge import hookimpl
class Plugin:
    @hookimpl
    def register_samplers(self, register):
        register("mine", int)
plugin = Plugin()
"""
    module = plugin("unused", source).value
    registry = load_entries([plugin("thing", "", module=f"{module}:plugin")])
    assert not registry.broken
    assert list(registry.samplers) == ["mine"]


def test_an_unknown_name_suggests_what_is_registered(plugin: MakePlugin) -> None:
    registry = load_entries([plugin("mine", _technique("ternary"))])
    with pytest.raises(UserError, match="unknown technique 'tenary'; did you mean 'ternary'"):
        registry.find("technique", "tenary")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("techniques", {"prune", "low_rank", "quantize", "distill"}),
        ("search_spaces", {"mobilenet"}),
        ("targets", {"local"}),
        ("samplers", {"nsga2", "tpe", "random"}),
        ("datasets", {"digits", "fashion-mnist", "cifar10", "folder"}),
    ],
)
def test_the_built_ins_come_through_their_entry_points(kind: str, names: set[str]) -> None:
    registry = load_plugins()
    assert [b for b in registry.broken if b.distribution == OWN_DISTRIBUTION] == []
    table: dict[str, Any] = getattr(registry, kind)
    assert names <= set(table)
