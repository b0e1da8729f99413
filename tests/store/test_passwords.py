"""A password in a URL is shown nowhere: not by a command, whether it works or is refused, and not in what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from nas_edge.cli import main
from nas_edge.plugins import Registry
from nas_edge.store.database import close_storages, open_storage, shown

from ..servers import DatabaseServer
from ..studies import keep_profile, study_file, tiny_config, tiny_values

PASSWORD = "geh{eim}"
SAID = {PASSWORD, "geheim", "eim}", "geh%7Beim%7D"}


def with_password(url: str) -> str:
    return sa.make_url(url).set(username="postgres", password=PASSWORD).render_as_string(hide_password=False)


def assert_unsaid(text: str) -> None:
    assert not [word for word in SAID if word in text], text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://u:geheim@host/x", "postgresql://u:***@host/x"),
        ("postgresql://host/x?user=u&password=geheim", "postgresql://host/x?password=***&user=u"),
        (
            "postgresql://host/x?sslPassword=geheim&sslmode=require",
            "postgresql://host/x?sslPassword=***&sslmode=require",
        ),
        ("postgresql://u:gehe%40im@host/x", "postgresql://u:***@host/x"),
        ("geheim", "(not a URL)"),
        ("postgresql://u:geheim@host:port/x", "(not a URL)"),
    ],
)
def test_urls_are_shown_without(url: str, text: str) -> None:
    assert shown(url) == text


def test_a_search_and_what_it_leaves(
    tiny: Registry, postgresql: DatabaseServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url, out = with_password(postgresql.database()), tmp_path / "run"
    values = tiny_values(out, storage=url, trials=1)
    keep_profile(tiny_config(out, storage=url), tiny)
    file = study_file(tmp_path / "study.toml", values)
    for command in (
        ["search", file],
        ["search", file, "--json"],
        ["show", "tiny", "--storage", url],
        ["show", "tiny", "--storage", url, "--json"],
        ["resume", "tiny", "--storage", url, "--trials", "2", "--json"],
        ["worker", "tiny", "--storage", url, "--json"],
        ["export", "tiny", "0", "--storage", url, "-o", str(tmp_path / "export")],
        ["upgrade", "--storage", url],
    ):
        assert main(command) == 0, capfd.readouterr().err
    said = capfd.readouterr()
    assert "***" in said.out  # the URL is shown, but for it
    assert_unsaid(said.out + said.err)
    for path in (p for folder in (out, tmp_path / "export") for p in folder.rglob("*") if p.is_file()):
        assert_unsaid(path.read_bytes().decode(errors="replace"))
    with open_storage(url, create=False).engine.connect() as connection:
        for table in sa.inspect(connection).get_table_names():
            assert_unsaid(str(connection.execute(sa.text(f'SELECT * FROM "{table}"')).all()))


@pytest.mark.parametrize(
    "change",
    [
        {"host": "127.0.0.1", "port": 1},  # refused
        {"host": "no.such.host.invalid"},
        {"database": "nothing"},
        {"username": "nobody"},
        {"query": {"host": "/nonexistent", "password": PASSWORD}},
        {"drivername": "postgresql+nothing"},
        {"query": {"nothing": "1"}},
    ],
)
@pytest.mark.parametrize("command", ["show", "search"])
def test_a_refused_connection(
    command: str,
    change: dict[str, object],
    server: DatabaseServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    parsed = sa.make_url(with_password(server.url))
    if "host" in change:
        change = {**change, "query": {}}
    url = parsed.set(**change).render_as_string(hide_password=False)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    arguments = ["show", "tiny"] if command == "show" else ["search", "--data", "digits", "--train-images", "60"]
    assert main([*arguments, "--storage", url]) == 2
    said = capfd.readouterr()
    assert_unsaid(said.out + said.err)
    assert "cannot be opened" in said.err and "Traceback" not in said.err
    close_storages()
