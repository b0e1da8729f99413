"""What all tests share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from nas_edge.plugins import Registry, load_plugins
from nas_edge.store.database import close_storages

from .servers import DatabaseServer, mariadb_server, postgresql_server
from .sharing import sharing
from .studies import install_tiny


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    folder = item.session.config.cache.mkdir("sharing")
    with sharing(folder, alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Profiles, anchors and named targets that belong to this test run, for it and the processes that it starts."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
        yield folder


@pytest.fixture(autouse=True)
def steady(own_home: Path) -> Iterator[None]:
    """No test's campaign is held to the speed that the machine had in another one."""
    yield
    shutil.rmtree(own_home / "cache" / "nas_edge" / "anchors", ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny plugin is installed."""
    folder = tmp_path_factory.mktemp("site")
    install_tiny(folder)
    return folder


@pytest.fixture(scope="session")
def server() -> Iterator[DatabaseServer]:
    """A PostgreSQL server for this test run.

    Not in pytest's folder: any other pytest of this user closes that to the user that the server runs as.
    """
    with tempfile.TemporaryDirectory(prefix="pg_") as folder, postgresql_server(Path(folder)) as running:
        yield running


@pytest.fixture
def postgresql(server: DatabaseServer) -> Iterator[DatabaseServer]:
    """The same, with the connections of a test closed after it."""
    yield server
    close_storages()


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    """A MariaDB server for this test run."""
    with mariadb_server(tmp_path_factory.mktemp("mariadb")) as running:
        yield running


@pytest.fixture
def tiny(tiny_site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """This process's plugins, freshly loaded, with the tiny one among them."""
    monkeypatch.syspath_prepend(str(tiny_site))
    monkeypatch.setenv("NAS_EDGE_LOAD_PLUGINS", "tiny")
    load_plugins.cache_clear()
    yield load_plugins()
    load_plugins.cache_clear()
