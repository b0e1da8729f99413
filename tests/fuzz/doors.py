"""The doors that damaged cases come in by, in a folder with a stored study, and what must hold of each."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import io
import os
import shutil
import sqlite3
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from optuna.artifacts import get_all_artifact_meta
from PIL import Image

from nas_edge import agent
from nas_edge.cli import main
from nas_edge.config import StudyConfig
from nas_edge.plugins import load_plugins
from nas_edge.store.places import ARTIFACTS
from nas_edge.store.study import StoredStudy
from nas_edge.targets.device import AgentOptions, AgentTarget
from nas_edge.targets.process import AgentProcess

from ..agents import agent_here
from ..studies import search, tiny_config
from ..third_party.nas_edge_tiny import nas_edge_tiny
from .cases import FOLDER, MODEL, PROFILE, RECIPE, REPLIES, REQUESTS, STORED, Case, sound_profile
from .networks import SOUND

LIMIT_S = 5.0
REFUSED, ACCEPTED = "refused", "accepted"


@dataclass(frozen=True)
class Outcome:
    """How a case ended: `fault` says what is wrong with that, None where nothing is."""

    status: int
    said: str
    seconds: float
    fault: str | None = None

    @property
    def verdict(self) -> str:
        return self.fault or (ACCEPTED if self.status == 0 else REFUSED)


class _Accepted(SystemExit):
    """A study file is sound: what is left is the search itself."""

    code = 0


class Replayed(AgentTarget):
    """A device that answers what stands in a file."""

    scheme = "replayed"
    pauses_s = ()
    remedy = "mend it"

    def start(self) -> AgentProcess:
        return AgentProcess(["cat", str(Path(FOLDER, REPLIES).resolve())])


class Doors:
    """The current folder with a study, a profile and a model in it, and the plugins of the tests."""

    def __init__(self) -> None:
        registry = load_plugins()
        registry.search_spaces["tiny"] = nas_edge_tiny.Tiny()
        registry.targets["bench"] = lambda address: nas_edge_tiny.Bench()
        registry.targets["replayed"] = lambda address: Replayed("", AgentOptions(processes=1))
        if registry.hooks.get_plugin("tiny") is None:
            registry.hooks.register(nas_edge_tiny, "tiny")
        config = tiny_config(Path("runs") / STORED, study=STORED, trials=1)
        if not config.folder.is_dir():
            search(config, registry)
            sound_profile().save(Path(PROFILE))
            onnx.save(SOUND["mobile"], MODEL)
            for place in range(60):  # a data set
                path = Path("images", "ab"[place % 2], f"{place}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), place * 4).save(path)
        self._database = config.folder / "study.db"
        stored = StoredStudy.load(STORED, config.storage_url)
        noted = get_all_artifact_meta(stored.trial(0), storage=stored.storage)
        self._recipe = config.folder / ARTIFACTS / next(m.artifact_id for m in noted if m.filename == RECIPE)
        self._agent = agent_here(max_run_s=1.0)

    def enter(self, case: Case) -> Outcome:
        """Bring a case in by its door, and judge what came of it."""
        shutil.rmtree(FOLDER, ignore_errors=True)
        for name, content in case.files.items():
            path = Path(FOLDER, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        before, files = self.rows(), _files()
        start = time.perf_counter()
        with self._recipe_replaced(case.files.get(RECIPE)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status, said = self._ask(case.files[REQUESTS]) if REQUESTS in case.files else _command(case.arguments)
        seconds = time.perf_counter() - start
        outcome = Outcome(status, said, seconds)
        changed = self.rows() != before and (status or case.kind == "recipes")
        fault = _fault(outcome) or ("the stored study is changed" if changed else None)
        if new := sorted(_files() - files):
            fault = fault or f"wrote {new[0]}"
        return Outcome(status, said, seconds, fault)

    def rows(self) -> str:
        """A digest of all rows in the study's database."""
        digest = hashlib.sha256()
        with contextlib.closing(sqlite3.connect(self._database)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
            for (name,) in tables:
                digest.update(repr((name, connection.execute(f'SELECT * FROM "{name}"').fetchall())).encode())
        return digest.hexdigest()

    @contextlib.contextmanager
    def _recipe_replaced(self, content: bytes | None) -> Iterator[None]:
        if content is None:
            yield
            return
        sound = self._recipe.read_bytes()
        self._recipe.write_bytes(content)
        try:
            yield
        finally:
            self._recipe.write_bytes(sound)

    def _ask(self, requests: bytes) -> tuple[int, str]:
        """Let an agent serve; its exit status, or 2 where it refused a request and lived on, and what it said no to."""
        replies = io.BytesIO()
        try:
            status = agent.serve(self._agent, io.BytesIO(requests), replies)
        except Exception:
            return 1, traceback.format_exc()
        finally:
            faulthandler.cancel_dump_traceback_later()
        replies.seek(0)
        errors = []
        while (reply := agent.read_frame(replies)) is not None:
            if not reply[0]["ok"]:
                errors.append(f"error: {reply[0]['error']}")
        return status or (agent.REFUSED if errors else 0), "\n".join(errors[-1:])


def _command(arguments: tuple[str, ...]) -> tuple[int, str]:
    """The exit status of a command in this process, and what it wrote to standard error."""
    said, results = io.StringIO(), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(results), _stopped_before_the_search():
        try:
            status = main(list(arguments))
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            status, _ = 1, said.write(traceback.format_exc())
    return status, said.getvalue()


@contextlib.contextmanager
def _stopped_before_the_search() -> Iterator[None]:
    """A study file that is sound makes no study: it is over once all that it says was looked at."""

    def create_or_load(config: StudyConfig, facts: Mapping[str, Any]) -> StoredStudy:
        here = config.folder.resolve() == Path("runs", STORED).resolve() and not (config.storage or config.artifacts)
        if here and config.name == STORED:
            original(config, facts)
        raise _Accepted

    original = StoredStudy.create_or_load
    StoredStudy.create_or_load = create_or_load  # type: ignore[method-assign]
    try:
        yield
    finally:
        StoredStudy.create_or_load = original  # type: ignore[method-assign]


def _fault(outcome: Outcome) -> str | None:
    said, lines = outcome.said, outcome.said.rstrip("\n").split("\n")
    errors = [line for line in lines if line.startswith("error: ")]
    if "Traceback (most recent call last)" in said:
        return "traceback: " + _where(lines)
    if outcome.status not in (0, 2):
        return f"exit status {outcome.status}: {lines[-1][:80]}"
    if outcome.status == 2 and (len(errors) != 1 or lines[-1] != errors[0] or len(errors[0]) < 15):
        return "no clear error line"
    if outcome.seconds > LIMIT_S and outcome.status != 0:
        return f"over {LIMIT_S:g} s"
    return None


def _where(lines: list[str]) -> str:
    """The last line of ours in a traceback, and the exception."""
    ours = [line.strip() for line in lines if "/nas_edge/" in line or "/plugins/" in line]
    raised = [line for line in lines if line and not line.startswith((" ", "error: "))]
    place = ours[-1].rpartition("/")[2] if ours else "elsewhere"
    return f"{place}: {raised[-1].split(':')[0] if raised else '?'}"


def _files() -> set[str]:
    """All files in the current folder but those of the case and SQLite's own."""
    found = set()
    for folder, inner, files in os.walk("."):
        if folder == ".":
            inner[:] = [name for name in inner if name not in (FOLDER, "cache", "images")]
        found |= {str(Path(folder, name)) for name in files if not name.endswith(("-wal", "-shm", ".lock"))}
    return found
