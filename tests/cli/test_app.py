"""The command line as a user meets it: real processes, what they print where, and their exit statuses."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from nas_edge.cli import main
from nas_edge.report.writing import plain

from ..studies import NAS_EDGE, heed_interrupts
from .command import environment, install, run

# Somebody's plugin whose commands end in every way that a command can.
COMMANDS = """
import errno, sys, time
from nas_edge import ExportError, UserError, hookimpl

def mistaken():
    raise UserError("trials is 0;\\n give at least 1")

def unexportable():
    raise ExportError("operator Foo cannot be written")

def faulty():
    raise ZeroDivisionError("a defect")

def full():
    raise OSError(errno.ENOSPC, "No space left on device", "/data/run")

def talks(as_json: bool = __import__("typer").Option(False, "--json")):
    from nas_edge.cli.output import emit
    print("a library says hello")
    emit({"nan": float("nan"), "ok": [1, 2.5, None, "ü"]}, as_json, lambda: "for people")

def sleeps():
    print("asleep", flush=True)
    time.sleep(60)

def plugins():
    print("not ours")

def counts(n: int):
    print(n + 1)

@hookimpl
def register_commands(cli):
    for command in (mistaken, unexportable, faulty, full, talks, sleeps, plugins, counts):
        cli.command()(command)
"""
BROKEN_COMMANDS = """
from nas_edge import hookimpl
@hookimpl
def register_commands(cli):
    raise LookupError("no commands today")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed plugins: one with commands, and one whose commands fail."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "with_commands", COMMANDS)
    install(folder, "without_commands", BROKEN_COMMANDS)
    return folder


def test_version_and_help() -> None:
    import nas_edge

    assert run("--version").stdout == f"nas-edge {nas_edge.__version__}\n"
    for arguments in ((), ("--help",), ("-h",)):
        done = run(*arguments)
        assert done.returncode == 0
        assert done.stderr == ""
        assert all(command in done.stdout for command in ("plugins", "spaces", "targets", "doctor"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plugns"], "error: no such command 'plugns'; did you mean 'plugins', 'new-plugin'? See `nas-edge --help`\n"),
        (["plugins", "--jsn"], "error: no such option: --jsn; did you mean --json? See `nas-edge plugins --help`\n"),
        (
            ["plugins", "extra"],
            "error: no such command 'extra'; see `nas-edge plugins --help`\n",
        ),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(arguments: Sequence[str], message: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_a_wrong_value_is_named(site: Path) -> None:
    assert run("counts", "2", site=site).stdout == "3\n"
    done = run("counts", "two", site=site)
    assert done.returncode == 2
    assert "invalid value" in _last_line(done)
    assert "(it is 'two'); see `nas-edge counts --help`" in _last_line(done)


def test_exit_statuses(site: Path) -> None:
    mistaken = run("mistaken", site=site)
    assert mistaken.returncode == 2
    assert _last_line(mistaken) == "error: trials is 0; give at least 1"
    assert "Traceback (most recent call last)" not in _without_warnings(mistaken)
    unexportable = run("unexportable", site=site)
    assert unexportable.returncode == 1
    assert _last_line(unexportable) == "error: operator Foo cannot be written"
    faulty = run("faulty", site=site)
    assert faulty.returncode == 1
    assert "ZeroDivisionError: a defect" in faulty.stderr
    assert "this is our fault" in _last_line(faulty)
    full = run("full", site=site)
    assert full.returncode == 2
    assert "'/data/run'" in _last_line(full)
    assert "no space left on device; free some space" in _last_line(full)


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.splitlines()[-1]


def _without_warnings(done: subprocess.CompletedProcess[str]) -> str:
    """Standard error after what the start said about the plugin whose commands fail."""
    return done.stderr.split("LookupError: no commands today")[-1]


def test_a_plugin_adds_commands_and_cannot_take_ours(site: Path) -> None:
    shown = run("--help", site=site)
    assert "mistaken" in shown.stdout
    assert "the commands of plugin 'without_commands' are left out: LookupError" in shown.stderr
    assert "plugin 'with_commands' has a command 'plugins', and so has another" in shown.stderr
    assert "not ours" not in run("plugins", site=site).stdout


def test_standard_output_holds_one_json_object_and_nothing_else(site: Path) -> None:
    done = run("talks", "--json", site=site)
    assert json.loads(done.stdout) == {"nan": None, "ok": [1, 2.5, None, "ü"]}
    assert "a library says hello" in done.stderr
    spoken = run("talks", site=site)
    assert spoken.stdout == "a library says hello\nfor people\n"


def test_ctrl_c_is_130(site: Path) -> None:
    process = subprocess.Popen(
        (*NAS_EDGE, "sleeps"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(site),
        preexec_fn=heed_interrupts,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "asleep\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.endswith("interrupted\n")


@pytest.mark.parametrize("arguments", [("plugins",), ("plugins", "--json"), ("--help",)])
def test_a_closed_pipe_is_no_fault(arguments: Sequence[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run((*NAS_EDGE, *arguments), stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_a_folder_that_cannot_be_written_is_the_users_mistake(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(arguments: list[str]) -> int:
        raise OSError(number, os.strerror(number), "/out")

    monkeypatch.setattr("nas_edge.cli.app.run", refuse)
    assert main(["plugins"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: cannot write or read '/out': ")
    assert line.count("\n") == 1


def test_an_os_error_of_another_kind_is_our_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(arguments: list[str]) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr("nas_edge.cli.app.run", refuse)
    assert main(["plugins"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_plain_values_for_json() -> None:
    import numpy as np

    value = {1: (Path("/a"), {"b", "a"}, float("inf"), np.float32(0.5), np.arange(2)), "nested": {"nan": np.nan}}
    assert plain(value) == {"1": ["/a", ["a", "b"], None, 0.5, [0, 1]], "nested": {"nan": None}}
