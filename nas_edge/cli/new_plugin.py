"""`nas-edge new-plugin`: a package to begin with, that works as it stands."""

from __future__ import annotations

import keyword
import re
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from nas_edge import __version__
from nas_edge.cli.inspect import JsonFlag
from nas_edge.errors import UserError
from nas_edge.plugins import load_plugins

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")  # also a Python module's, and the prefix of parameters
EXAMPLE = "example"  # in the templates, where the name is to stand
TEMPLATES = "nas_edge.templates"


class Kind(StrEnum):
    TECHNIQUE = "technique"
    SPACE = "space"
    TARGET = "target"
    SAMPLER = "sampler"


# What is registered, in the words of the registry, and how a search is told to use it.
REGISTERED = {
    Kind.TECHNIQUE: ("technique", "techniques"),
    Kind.SPACE: ("search space", "space"),
    Kind.TARGET: ("target", "target"),
    Kind.SAMPLER: ("sampler", "sampler"),
}


def new_plugin(
    name: Annotated[str, typer.Argument(help="What it registers: small letters, digits and underscores.")],
    kind: Annotated[Kind, typer.Option(help="What kind of plugin.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The folder to write; by default nas-edge-NAME.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a plugin package that installs, passes the conformance kit and takes part in a search."""
    from nas_edge.cli.output import emit

    _check_name(name, kind)
    folder = out or Path(f"nas-edge-{name.replace('_', '-')}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; remove it, or give another folder with --out")
    written = [_write(folder / path, template, name, kind) for path, template in _contents(name, kind).items()]
    steps = [f"pip install -e '{folder}[test]'", f"nas-edge plugins check {name}", f"pytest {folder}", _use(name, kind)]
    text = "\n".join([*(f"wrote {path}" for path in written), "", "next:", *(f"  {step}" for step in steps)])
    emit({"files": [str(path) for path in written], "next": steps}, as_json, lambda: text)


def _check_name(name: str, kind: Kind) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > 50:
        raise UserError(
            f"{name!r} is no name for a plugin; give small letters, digits and '_', a letter first, such as my_plugin"
        )
    what, _ = REGISTERED[kind]
    taken = load_plugins().owners.get((what, name))
    if taken is not None:
        raise UserError(f"there is a {what} {name!r} already, of {taken.distribution}; choose another name")


def _contents(name: str, kind: Kind) -> dict[str, str]:
    """The files of the package, and the templates that they are made from."""
    return {
        "pyproject.toml": "package.toml",
        "README.md": "readme.md",
        f"nas_edge_{name}.py": f"{kind}.py",
        f"tests/test_{name}.py": f"{kind}_test.py",
        "tests/test_plugin.py": "plugin_test.py",
    }


def _write(path: Path, template: str, name: str, kind: Kind) -> Path:
    text = files(TEMPLATES).joinpath(template).read_text(encoding="utf-8")
    camel = "".join(part.capitalize() for part in name.split("_"))
    text = text.replace(f"nas-edge-{EXAMPLE}", f"nas-edge-{name.replace('_', '-')}")
    text = text.replace("Example", camel).replace(EXAMPLE, name)
    if not template.endswith(".py"):
        values = {"KIND": REGISTERED[kind][0], "VERSION": __version__, "USE": _use(name, kind)}
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _use(name: str, kind: Kind) -> str:
    return f"nas-edge search --{REGISTERED[kind][1]} {name} --trials 8 --study {name}"
