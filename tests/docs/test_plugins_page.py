"""docs/plugins.md names each check of the kit by its name, and its code registers what it says."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pluggy
import pytest

from nas_edge import hookspecs, testing
from nas_edge.testing.running import in_words

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
SECTIONS = {
    "technique": testing.TechniqueTests,
    "search space": testing.SearchSpaceTests,
    "target": testing.TargetTests,
    "sampler": testing.SamplerTests,
    "plugin": testing.PluginTests,
}


def section(heading: str) -> str:
    return re.split(r"\n##+ ", PAGE.partition(f"\n{heading}\n")[2])[0]


@pytest.mark.parametrize("kind", SECTIONS)
def test_each_check_is_explained(kind: str) -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", section(f"### Of a {kind}"), re.MULTILINE)
    named = [name for row in rows for name in row.split("; ") if name not in ("check", "---")]
    assert sorted(named) == sorted(in_words(name) for name in dir(SECTIONS[kind]) if name.startswith("test_"))


def test_the_code_registers_what_it_says() -> None:
    registered: dict[str, list[object]] = {}
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)):
        if "hookimpl" not in code:
            continue
        module = ModuleType(f"block{number}")
        exec(compile(code, f"docs/plugins.md, block {number}", "exec", dont_inherit=True), vars(module))
        hooks = pluggy.PluginManager("nas_edge")
        hooks.add_hookspecs(hookspecs)
        hooks.register(module)
        hooks.check_pending()
        (caller,) = hooks.get_hookcallers(module) or []
        caller(register=lambda *what, name=caller.name: registered.setdefault(name, []).extend(what))
    assert {hook: len(what) for hook, what in registered.items()} == {
        "register_techniques": 1,
        "register_search_spaces": 1,
        "register_targets": 2,
        "register_samplers": 2,
        "register_datasets": 1,
    }
    (space,) = registered["register_search_spaces"]
    checks = testing.SearchSpaceTests()
    checks.test_its_corners_build_train_and_export(space)  # type: ignore[arg-type]
    checks.test_no_parameter_is_dead(space)  # type: ignore[arg-type]
