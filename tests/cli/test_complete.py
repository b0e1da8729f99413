"""What the shell completes: by typer's own protocol, and in a real bash."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_edge.cli import main
from nas_edge.cli.app import run
from nas_edge.targets.names import Named, save_name

from ..report.made import made_study

BASH = shutil.which("bash")
Words = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two studies were searched."""
    folder = tmp_path_factory.mktemp("work")
    made_study(folder / "runs" / "made", 20)
    made_study(folder / "runs" / "more", 10, study="more", finals=False)
    (folder / "runs" / "empty").mkdir()
    return folder


@pytest.fixture
def words(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], list[str]]:
    """What bash is offered at the end of a line."""

    def offered(line: str) -> list[str]:
        parts = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(parts) - 1))
        with pytest.raises(SystemExit) as end:
            run([])
        assert end.value.code == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.split()

    monkeypatch.chdir(runs)
    monkeypatch.setenv("_NAS_EDGE_COMPLETE", "complete_bash")
    return offered


def test_commands_and_options(words: Words) -> None:
    assert {"search", "show", "export", "init", "targets", "new-plugin"} <= set(words("nas-edge "))
    assert words("nas-edge ex") == ["export"]
    assert words("nas-edge targets a") == ["add"]
    assert words("nas-edge export made 3 --a") == ["--all-front"]
    assert words("nas-edge show --state f") == ["finished", "failed"]


@pytest.mark.parametrize("command", ["show", "export", "resume", "worker", "report", "dashboard"])
def test_studies(command: str, words: Words) -> None:
    assert words(f"nas-edge {command} ") == ["made", "more"]
    assert words(f"nas-edge {command} mo") == ["more"]


def test_trials_of_the_study_the_best_first(words: Words, runs: Path) -> None:
    offered = words("nas-edge show made ")
    stored = sqlite3.connect(runs / "runs" / "made" / "study.db")
    ordered = stored.execute(
        "SELECT number FROM trials JOIN trial_values USING (trial_id) "
        "WHERE state = 'COMPLETE' AND objective = 0 ORDER BY value DESC"
    ).fetchall()
    stored.close()
    assert [int(number) for number in offered] == [number for (number,) in ordered] and len(ordered) > 8
    assert words("nas-edge export runs/made 1") == [n for n in offered if n.startswith("1")]
    assert set(words("nas-edge show runs/more/study.db ")) < {*map(str, range(10))}
    assert words("nas-edge show nothing ") == [] == words("nas-edge show runs/empty ")


def test_values(words: Words, own_home: Path) -> None:
    assert words("nas-edge search --space mo") == ["mobilenet"]
    assert words("nas-edge search --sampler r") == ["reinforce", "random"]
    assert words("nas-edge search --techniques q") == ["qat", "quantize"]
    assert words("nas-edge search --techniques quantize,pr") == ["quantize,prune"]
    assert words("nas-edge compress m --techniques quantize,qu") == []
    assert words("nas-edge search --data f") == ["fashion-mnist:", "folder:"]
    assert words("nas-edge show made --sort acc") == ["accuracy"]
    assert "-accuracy" in words("nas-edge show made --sort ")
    assert words("nas-edge plugins check prun") == ["prune"]
    save_name("kitchen-board", Named("ssh://pi@board"))
    assert words("nas-edge calibrate --target k") == ["kitchen-board"] == words("nas-edge targets remove ")
    assert words("nas-edge search --target l") == ["local"]


def test_a_damaged_database_offers_nothing(words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "bad").mkdir(parents=True)
    (tmp_path / "runs" / "bad" / "study.db").write_text("no database" * 100)
    assert words("nas-edge show ") == ["bad"] and words("nas-edge show bad ") == []


def test_it_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "--install-completion" in said and "--show-completion" in said


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_in_a_real_bash(runs: Path, tmp_path: Path) -> None:
    """The script that --show-completion prints completes a line."""
    command = tmp_path / "nas-edge"
    command.write_text(f'#!{BASH}\nexec {sys.executable} -m nas_edge "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IEXEC)
    script = (
        'eval "$(_NAS_EDGE_COMPLETE=source_bash nas-edge)"; complete -p nas-edge; '
        "COMP_WORDS=(nas-edge show mo); COMP_CWORD=2; _nas_edge_completion nas-edge; "
        'echo "offered: ${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([str(BASH), "-c", script], capture_output=True, text=True, cwd=runs, env=environment)
    assert re.search(r"^complete -o default -F _nas_edge_completion nas-edge$", done.stdout, re.M), done
    assert done.stdout.splitlines()[-1] == "offered: more" and done.stderr == ""
