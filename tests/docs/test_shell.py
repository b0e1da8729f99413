"""The shell's commands in the documentation: each is held against the command line, and what can be run is run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nas_edge import load_study
from nas_edge.cli import main
from nas_edge.cli.app import command_line

from ..report.made import made_study
from .pages import PAGES, ROOT, Block, blocks, commands, make_photos

SHELL = [block for page in PAGES for block in blocks(page, "sh", "console")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Commands of ours that are parsed alone, and why: all others are run. What they do, the tests of the command line show.
PARSED = {
    "search": "takes minutes; run in the pages that are followed",
    "export": "needs a model that was searched for; likewise",
    "compress": "takes minutes",
    "measure": "takes a quiet CPU for seconds",
    "predict": "needs a calibrated profile",
    "dashboard": "serves until it is interrupted",
    "init": "asks on a terminal",
    "plugins check": "takes minutes",
    "spaces plain": "the plugin is not installed",
    "report digits": "needs a database",
}
# The pages that are followed from command to command, and what is run of them.
FOLLOWED = {
    "tutorial.md": "nas-edge doctor, ls photos, nas-edge search, nas-edge show, nas-edge report, python -c, "
    "cat out/card.md, python out/run.py",
    "deploy.md": "nas-edge show, nas-edge export, nas-edge export, nas-edge export, python out/run.py",
}
SMALL = "--space tiny --target bench --sampler random --techniques none --train-images 128 --samples 128 --trials 3"
SMALL += " --set train.teacher_budget=1 --set train.final_budget=0"


def parse(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The command that is named, and its parameters. Raises what the command line itself would."""
    command: Any = command_line(arguments)
    name, context, rest = "nas-edge", None, arguments
    while True:
        context = command.make_context(name, list(rest), parent=context)
        rest = [*context._protected_args, *context.args]
        if not (hasattr(command, "resolve_command") and rest):
            return name, context.params
        name, command, rest = command.resolve_command(context, rest)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_are_those_of_the_command_line(block: Block) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(block):
        match words:
            case ["nas-edge", *arguments]:
                parse(arguments)
            case ["make", target, *_]:
                assert target in targets
            case ["pip", "install", *what]:
                extras = set(",".join(re.findall(r"(?:nas-edge|\.)\[([^\]]+)\]", " ".join(what))).split(",")) - {""}
                assert extras <= PROJECT["optional-dependencies"].keys()
            case ["python", "-c", code]:
                compile(code, str(block), "exec")
            case ["python", script, *_] if script.startswith("benchmarks/"):
                assert (ROOT / script).is_file()


def test_it_is_installed_by_a_path_for_it_is_not_on_pypi() -> None:
    """Once there, pip finds the extras of `nas-edge[s3]` in what is installed."""
    begins = [words for page in ("index.md", "tutorial.md") for b in blocks(page, "sh") for words in commands(b)]
    assert [words[2] for words in begins if words[0] == "pip"] == ["/path/to/nas-edge[report,dashboard]"]
    readme = ROOT / "nas_edge" / "templates" / "readme.md"
    assert not [path for path in (*PAGES.values(), readme) if "pypi.org" in path.read_text()]


def test_kubernetes_is_told_a_command_of_the_command_line() -> None:
    (block,) = blocks("long_searches.md", "yaml")
    (container,) = yaml.safe_load(block.code)["spec"]["template"]["spec"]["containers"]
    name, *arguments = container["command"]
    assert name == "nas-edge" and parse(arguments)[0] == "worker"


def why_not(block: Block, arguments: list[str]) -> str | None:
    """Why a command of ours is not run; None for one that is."""
    words = [word for word in arguments if not word.startswith("-")]
    return block.not_run or PARSED.get(words[0]) or PARSED.get(" ".join(words[:2]))


def run(arguments: list[str], block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0, f"{block}: nas-edge {shlex.join(arguments)}: {capsys.readouterr().err}"


def test_quick_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once each, on studies that are made by hand; those of the pages that are followed are run there."""
    monkeypatch.chdir(tmp_path)
    seen: set[str] = set()
    for block in SHELL:
        for _, *arguments in (words for words in commands(block) if words[0] == "nas-edge"):
            line = shlex.join(arguments)
            if why_not(block, arguments) or line in seen or block.page in FOLLOWED:
                continue
            if arguments[0] == "report" and block.page != "report.md":  # the same of another study
                continue
            seen.add(line)
            for folder in (Path(word) for word in arguments if word.startswith("runs/")):
                if not folder.exists():
                    made_study(folder, 20, study=folder.name)
            if arguments[0] == "new-plugin" and Path(f"nas-edge-{arguments[1].replace('_', '-')}").exists():
                continue
            run(arguments, block, capsys)
    assert {line.split()[0] for line in seen} == {"plugins", "new-plugin", "show", "report"}


def test_each_reason_not_to_run_a_command_is_of_use() -> None:
    ours = [words[1:] for block in SHELL for words in commands(block) if words[0] == "nas-edge" and not block.not_run]
    assert PARSED.keys() <= {words[0] for words in ours} | {" ".join(words[:2]) for words in ours}


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed(
    page: str, quick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the first command to the last, with a search of three tiny candidates."""
    make_photos(quick)
    if page != "tutorial.md":  # which searches by itself
        assert main(["search", "--data", "digits", *SMALL.split()]) == 0
    Path("photo.jpg").write_bytes(Path("photos/digit3/3.png").read_bytes())
    ran: list[str] = []
    for block in blocks(page, "sh"):
        for program, *words in commands(block):
            match program, words:
                case "nas-edge", ["search", *_]:
                    run([*words, *SMALL.split()], block, capsys)
                case "nas-edge", ["export", folder, *rest]:
                    number = str(load_study(folder).front[0].number)
                    run(["export", folder, *(number if word == "17" else word for word in rest)], block, capsys)
                case "nas-edge", _ if why_not(block, words) is None:
                    run(words, block, capsys)
                case "python", ["-c", code]:
                    exec(code, {})
                case "python", [script, image]:
                    done = subprocess.run([sys.executable, script, image], capture_output=True, text=True)
                    assert done.returncode == 0 and re.search(r"^ +\d+\.\d+%  (digit)?\d$", done.stdout, re.M), done
                case (("cat" | "ls"), [path]):
                    assert Path(path).exists()
                case _:
                    continue
            ran.append(f"{program} {words[0]}")
    assert ", ".join(ran) == FOLLOWED[page]


def test_files_that_the_shell_writes_are_python(tmp_path: Path) -> None:
    written = {}
    for block in SHELL:
        for name, end, text in re.findall(r"^cat > (\S+\.py) <<'(\w+)'\n(.*?)^\2$", block.code, re.M | re.S):
            written[name] = text
            assert end
            compile(text, f"{block}: {name}", "exec")
    assert written.keys() == {"nets.py", "photos.py"}
    names: dict[str, Any] = {}
    exec(written["nets.py"], names)
    assert names["small"]()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
