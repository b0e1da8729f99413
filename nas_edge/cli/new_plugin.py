"""`nas-edge new-plugin`: a package to begin with, that works as it stands."""

from __future__ import annotations

import io
import keyword
import re
import shlex
import tokenize
from collections.abc import Iterable
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
# Packages of ours (nas_edge_plugins, nas_edge_spaces), and words of the command line in the place of a name.
RESERVED = frozenset({"plugins", "spaces", "train", "all", "default", "none"})
EXAMPLE = "Example"  # in the templates, where the class of the author is to stand
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
    written = _write(folder, name, kind)
    steps = [
        f"pip install -e {shlex.quote(f'{folder}[test]')}",
        f"nas-edge plugins check {name}",
        f"pytest {shlex.quote(str(folder))}",
        _use(name, kind),
    ]
    text = "\n".join([*(f"wrote {path}" for path in written), "", "next:", *(f"  {step}" for step in steps)])
    emit({"files": [str(path) for path in written], "next": steps}, as_json, lambda: text)


def _check_name(name: str, kind: Kind) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > 50:
        raise UserError(
            f"{name!r} is no name for a plugin; give small letters, digits and '_', a letter first, such as my_plugin"
        )
    if name in RESERVED:
        raise UserError(f"{name!r} means something else to nas-edge; choose another name")
    what, _ = REGISTERED[kind]
    registry = load_plugins()
    taken = registry.owners.get((what, name))
    if taken is not None:
        raise UserError(f"there is a {what} {name!r} already, of {taken.distribution}; choose another name")
    plugins = {info.name: info.distribution for info in registry.plugins}
    plugins |= {broken.name: broken.distribution for broken in registry.broken}
    if name in plugins:
        raise UserError(f"there is a plugin {name!r} already, of {plugins[name]}; choose another name")


def _contents(name: str, kind: Kind) -> dict[str, str]:
    """The files of the package, and the templates that they are made from."""
    return {
        "pyproject.toml": "package.toml",
        "README.md": "readme.md",
        f"nas_edge_{name}.py": f"{kind}.py",
        f"tests/test_{name}.py": f"{kind}_test.py",
        f"tests/test_nas_edge_{name}.py": "plugin_test.py",
    }


def _write(folder: Path, name: str, kind: Kind) -> list[Path]:
    """The files that were written: the templates, with all placeholders replaced at once."""
    contents = _contents(name, kind)
    texts = {path: files(TEMPLATES).joinpath(template).read_text("utf-8") for path, template in contents.items()}
    values = {
        "nas-edge-example": f"nas-edge-{name.replace('_', '-')}",
        EXAMPLE: _class_name(name, (text for path, text in texts.items() if path.endswith(".py"))),
        "example": name,
        "KIND": REGISTERED[kind][0],
        "VERSION": __version__,
        "USE": _use(name, kind),
    }
    placeholder = re.compile("|".join(values))
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(placeholder.sub(lambda found: values[found[0]], text), encoding="utf-8")
    return [folder / path for path in texts]


def _class_name(name: str, sources: Iterable[str]) -> str:
    """`HalvesTwice` of `halves_twice`; `MyContext` of `context`, for the sources use `Context` for something else.

    Nor is it a keyword (`None`), or what pytest would take for tests (`TestTime`).
    """
    made = "".join(part.capitalize() for part in name.split("_"))
    tokens = (token for source in sources for token in tokenize.generate_tokens(io.StringIO(source).readline))
    used = {token.string for token in tokens if token.type == tokenize.NAME} - {EXAMPLE}
    return f"My{made}" if made in used or keyword.iskeyword(made) or made.startswith("Test") else made


def _use(name: str, kind: Kind) -> str:
    return f"nas-edge search --{REGISTERED[kind][1]} {name} --trials 8 --study {name}"
