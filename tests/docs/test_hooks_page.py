"""docs/hooks.md has each hook by its real signature, and its examples are a plugin that a search runs with."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_edge import hookspecs
from nas_edge.cli import main
from nas_edge.plugins import Registry, load_plugins
from nas_edge.testing import SearchSpaceTests

from ..cli.command import install
from ..studies import search, tiny_config

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "hooks.md").read_text()
HOOKS = {name: f for name, f in inspect.getmembers(hookspecs, inspect.isfunction) if hasattr(f, "nas_edge_spec")}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def sections() -> dict[str, str]:
    parts = re.split(r"^### (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_each_hook_has_a_heading_that_is_its_signature() -> None:
    expected = {f"{name}({', '.join(inspect.signature(f).parameters)})": f for name, f in HOOKS.items()}
    assert len(HOOKS) == 11
    assert sections().keys() == expected.keys()
    for heading, f in expected.items():
        typed = f"{f.__name__}{inspect.signature(f)}".replace("'", "")
        assert f"```text\n{typed}\n```" in sections()[heading]
        assert f"def {f.__name__}(" in "".join(BLOCK.findall(sections()[heading]))


def test_the_overview_names_each() -> None:
    overview = PAGE.partition("\n### ")[0]
    assert set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.+?) \|", overview, re.MULTILINE)))) >= HOOKS.keys()


@pytest.fixture
def toured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The plugins with that of the page among them."""
    site = tmp_path / "site"
    site.mkdir()
    install(site, "tour", "\n\n".join(BLOCK.findall(PAGE)))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("NAS_EDGE_LOAD_PLUGINS", "tour")
    load_plugins.cache_clear()
    yield load_plugins()
    load_plugins.cache_clear()


def test_a_search_calls_every_hook_of_the_examples(
    toured: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toured.broken == []
    called: set[str] = set()
    tour = toured.hooks.get_plugin("tour")

    def note(hook: str, implementations: list[object], arguments: object) -> None:
        called.update([hook] if any(getattr(i, "plugin", None) is tour for i in implementations) else [])

    undo = toured.hooks.add_hookcall_monitoring(note, lambda *_: None)  # type: ignore[arg-type]
    config = tiny_config(
        tmp_path / "out",
        data="stripes:12",
        space="one_layer",
        target="scales",
        sampler="calm-nsga2",
        techniques=["nameplate"],
        train={"samples": 2000},
        trials=4,
        gate=False,
        set={"nameplate.enabled": True},
    )
    stored = search(config, toured)
    undo()
    front = stored.front()
    assert stored.finished() == 4 and front[0].values[0] > 0.7
    assert all(t.user_attrs["techniques"] == "nameplate" for t in front)
    assert called == {name for name in HOOKS if not name.startswith("register_")}
    registered = [*toured.techniques, *toured.search_spaces, *toured.targets, *toured.samplers, *toured.datasets]
    assert {"nameplate", "one_layer", "scales", "calm-nsga2", "stripes"} <= set(registered)
    assert f"tiny: a front of {len(front)}" in capsys.readouterr().out
    assert main(["hello", "--name", "you"]) == 0
    assert capsys.readouterr().out == "hello, you\n"


def test_the_space_of_the_examples_passes_the_kit(toured: Registry) -> None:
    checks = SearchSpaceTests()
    checks.test_its_corners_build_train_and_export(toured.search_spaces["one_layer"])
    checks.test_no_parameter_is_dead(toured.search_spaces["one_layer"])
