"""Names that users give to targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_edge import UserError
from nas_edge.plugins import load_plugins
from nas_edge.targets.address import parse_target
from nas_edge.targets.names import Named, load_names, names_file, remove_name, save_name


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_names_are_kept_replaced_and_removed(config: Path) -> None:
    assert load_names() == {}
    save_name("board", Named("ssh://board", 'Cortex "A76", 4 threads \\ ü 🙂'))
    save_name("other-1", Named("local?threads=2"))
    save_name("board", Named("ssh://board?threads=4", 'Cortex "A76" \\ ü 🙂'))
    assert load_names() == {
        "board": Named("ssh://board?threads=4", 'Cortex "A76" \\ ü 🙂'),
        "other-1": Named("local?threads=2"),
    }
    assert remove_name("board").address == "ssh://board?threads=4"
    assert list(load_names()) == ["other-1"]
    assert [path.name for path in (config / "nas_edge").iterdir()] == ["targets.toml"]
    with pytest.raises(UserError, match="unknown target 'other'; did you mean 'other-1'"):
        remove_name("other")


@pytest.mark.parametrize("text", ["no toml", "board = 3", "[board]\nadress = 'ssh://x'", "[board]\naddress = 3"])
def test_a_damaged_file_is_named(config: Path, text: str) -> None:
    names_file().parent.mkdir()
    names_file().write_text(text)
    with pytest.raises(UserError, match=r"targets.toml: cannot be read .*; mend it"):
        load_names()


def test_a_name_is_a_target() -> None:
    targets = load_plugins().targets
    save_name("board", Named("ssh://me@board?threads=4&processes=1"))
    save_name("lost", Named("smoke://signals"))
    assert parse_target(targets, "board").name == "ssh://me@board?threads=4&processes=1"
    assert parse_target(targets, "board?threads=2").name == "ssh://me@board?threads=2&processes=1"
    with pytest.raises(UserError, match="unknown target 'bord'; did you mean 'board'"):
        parse_target(targets, "bord")
    with pytest.raises(UserError, match="unknown target 'board'"):
        parse_target(targets, "board://host")
    with pytest.raises(UserError, match=r"'lost' stands for smoke://signals, and nothing offers 'smoke'"):
        parse_target(targets, "lost")
